package admin

import (
	"embed"
	"net/http"
)

//go:embed page
var pageFS embed.FS

// pagePolicy lets the page load its own files and nothing else, and lets no text
// become script: a browser that knows trusted types refuses to turn any into
// elements.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// pageFile is a file of the dashboard.
type pageFile struct {
	name        string // below page
	contentType string
}

// pageFiles are the dashboard by path. They hold nothing that is not public.
var pageFiles = map[string]pageFile{
	"/{$}":                {"index.html", "text/html; charset=utf-8"},
	"/assets/app.css":     {"app.css", "text/css; charset=utf-8"},
	"/assets/app.js":      {"app.js", "text/javascript; charset=utf-8"},
	"/assets/dom.js":      {"dom.js", "text/javascript; charset=utf-8"},
	"/assets/live.js":     {"live.js", "text/javascript; charset=utf-8"},
	"/assets/plot.js":     {"plot.js", "text/javascript; charset=utf-8"},
	"/assets/view.js":     {"view.js", "text/javascript; charset=utf-8"},
	"/assets/actions.js":  {"actions.js", "text/javascript; charset=utf-8"},
	"/assets/sessions.js": {"sessions.js", "text/javascript; charset=utf-8"},
	"/assets/icon.svg":    {"icon.svg", "image/svg+xml"},
}

func (f pageFile) serve(w http.ResponseWriter, _ *http.Request) {
	b, err := pageFS.ReadFile("page/" + f.name)
	if err != nil { // it is built in
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", f.contentType)
	w.Header().Set("Content-Security-Policy", pagePolicy)
	_, _ = w.Write(b)
}
