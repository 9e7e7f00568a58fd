// A table of text: cells are set as text, never as markup. Rows are kept between updates, so
// scroll place and focus survive.
export function render({model}) {
  const root = document.createElement("div")
  root.className = "members"
  root.tabIndex = 0
  root.setAttribute("role", "region")
  root.setAttribute("aria-label", model.label)
  const table = root.appendChild(document.createElement("table"))
  const head = table.appendChild(document.createElement("thead")).insertRow()
  const body = table.appendChild(document.createElement("tbody"))

  const fit = (parent, count, make) => {
    while (parent.children.length > count) { parent.lastChild.remove() }
    while (parent.children.length < count) { parent.appendChild(make()) }
  }
  const cell = (tag) => () => {
    const made = document.createElement(tag)
    if (tag === "th") { made.scope = "col" }
    return made
  }
  const put = (node, text) => { if (node.textContent !== text) { node.textContent = text } }

  const row = () => {
    const made = document.createElement("tr")
    const box = made.insertCell().appendChild(document.createElement("input"))
    box.type = "checkbox"
    made.addEventListener("click", () => {
      if (made.dataset.member !== "") { model.send_msg({toggle: Number(made.dataset.member)}) }
    })
    return made
  }

  const draw = () => {
    const {columns, rows, picked} = model
    fit(head, columns.length + 1, cell("th"))
    put(head.children[0], "")
    head.children[0].setAttribute("aria-label", "selected")
    columns.forEach((text, i) => {
      put(head.children[i + 1], text)
      head.children[i + 1].className = model.numeric[i] ? "number" : ""
    })
    fit(body, rows.length, row)
    rows.forEach(({member, dead, cells}, r) => {
      const line = body.children[r]
      const color = picked[String(member)]
      // Rows without a number are to be read only.
      const plain = member === null
      line.dataset.member = plain ? "" : member
      line.className = `${dead ? "dead" : ""} ${color ? "picked" : ""} ${plain ? "plain" : ""}`
      line.style.setProperty("--pick", color ?? "transparent")
      const box = line.children[0].firstChild
      box.checked = color !== undefined
      box.hidden = plain
      box.setAttribute("aria-label", `select ${model.noun} ${member}`)
      fit(line, cells.length + 1, cell("td"))
      cells.forEach((text, i) => {
        put(line.children[i + 1], text)
        line.children[i + 1].className = model.numeric[i] ? "number" : ""
      })
    })
  }
  draw()
  model.on("rows", draw)
  model.on("picked", draw)
  model.on("columns", draw)
  model.on("numeric", draw)
  return root
}
