"""The write token: made once, kept private, and nothing else opens the controls."""

import os
import stat

import pytest

from viz import access


def test_the_token_is_made_once_and_is_private(tmp_path):
    token = access.write_token(tmp_path)
    path = tmp_path / access.FILE
    assert token is not None and len(token) == 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert access.write_token(tmp_path) == token
    other = tmp_path / "other"
    other.mkdir()
    assert access.write_token(other) != token


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_a_token_that_others_can_read_or_write_is_not_trusted(tmp_path, mode):
    access.write_token(tmp_path)
    (tmp_path / access.FILE).chmod(mode)
    assert access.write_token(tmp_path) is None


@pytest.mark.parametrize("text", ["", "short", "x" * 44, "é" * 43, "a" * 42 + " ", "\x00" * 43])
def test_a_damaged_token_is_not_trusted(tmp_path, text):
    path = tmp_path / access.FILE
    path.write_text(text)
    path.chmod(0o600)
    assert access.write_token(tmp_path) is None


def test_what_is_no_plain_file_is_not_trusted(tmp_path):
    target = tmp_path / "target"
    target.write_text("x" * 43)
    target.chmod(0o600)
    for name, make in (("link", lambda p: p.symlink_to(target)), ("pipe", os.mkfifo),
                       ("folder", os.mkdir)):  # fmt: skip
        directory = tmp_path / name
        directory.mkdir()
        make(directory / access.FILE)
        assert access.write_token(directory) is None


def test_a_place_that_cannot_be_written_has_no_token(closed_directory):
    assert access.write_token(closed_directory) is None


TOKEN = "a" * 43


@pytest.mark.parametrize(
    ("arguments", "may"),
    [
        ({"token": [TOKEN.encode()]}, True),
        ({}, False),
        ({"token": []}, False),
        ({"token": [b""]}, False),
        ({"token": [b"a" * 42]}, False),
        ({"token": [b"a" * 44]}, False),
        ({"token": [b"b" * 43]}, False),
        ({"token": [TOKEN.encode(), TOKEN.encode()]}, False),
        ({"token": ["é".encode()]}, False),
        ({"Token": [TOKEN.encode()]}, False),
    ],
)
def test_only_the_token_opens_the_controls(arguments, may):
    assert access.may_steer(arguments, TOKEN) is may
    assert access.may_steer(arguments, None) is False
