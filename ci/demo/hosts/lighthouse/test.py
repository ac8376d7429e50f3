"""lighthouse is up when the page comes over HTTP."""

page = machine.wait_until_succeeds("wget -q -O - http://127.0.0.1/")
assert "The light is on" in page, page
