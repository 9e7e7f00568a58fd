// Of a card: a button that turns its plot into a table and back, and a menu that saves what it
// shows. Pictures are drawn by the browser, data comes from the server.
export function render({model}) {
  const root = document.createElement("div")
  const button = root.appendChild(document.createElement("button"))
  const menu = root.appendChild(document.createElement("select"))
  menu.setAttribute("aria-label", `Export ${model.title}`)
  button.setAttribute("aria-label", `${model.title} as a table`)
  button.textContent = "Table"
  button.hidden = !model.plotted

  const draw = () => {
    const kinds = model.figure && !model.table ? ["PNG", "SVG", "CSV", "Parquet"] : ["CSV", "Parquet"]
    menu.replaceChildren(new Option("Save", ""), ...kinds.map((kind) => new Option(kind, kind)))
    button.setAttribute("aria-pressed", String(model.table))
  }
  const save = (blob, ending) => {
    const link = document.createElement("a")
    link.href = URL.createObjectURL(blob)
    link.download = `${model.file}.${ending.toLowerCase()}`
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 1000)
  }
  const picture = async (kind) => {
    const layer = Bokeh.index.find_one_by_id(model.figure)?.export(kind.toLowerCase())
    if (layer) { save(await layer.to_blob(), kind) }
  }
  button.addEventListener("click", () => { model.table = !model.table })
  menu.addEventListener("change", () => {
    const kind = menu.value
    menu.value = ""
    if (kind === "PNG" || kind === "SVG") { picture(kind) } else { model.send_msg({data: kind}) }
  })
  model.on("msg:custom", ({kind, content}) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))
    save(new Blob([bytes]), kind)
  })
  draw()
  model.on("figure", draw)
  model.on("table", draw)
  return root
}
