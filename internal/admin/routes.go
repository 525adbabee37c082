package admin

import (
	_ "embed" // for the description of the API
	"net/http"
	"slices"
	"strings"
)

// route is a path that is served, and who may have it.
type route struct {
	method, path string
	need         right
	serve        http.HandlerFunc
}

// routes lists all that is served, but for the parts of the page.
func (a *Admin) routes() []route {
	list := []route{
		{"GET", "/healthz", anyone, serveHealth},
		{"GET", "/readyz", anyone, a.serveReady},
		{"GET", "/metrics", reading, a.metrics().ServeHTTP},
		{"GET", "/api/status", reading, a.serveStatus},
		{"GET", "/api/v1/status", reading, a.serveStatus},
		{"GET", "/api/v1/events", reading, a.serveEvents},
		{"GET", "/api/v1/reloads", reading, a.serveReloads},
		{"GET", "/api/v1/history", reading, a.serveHistory},
		{"GET", "/api/v1/config", reading, a.serveConfig},
		{"GET", "/api/v1/sessions", reading, a.serveSessions},
		{"GET", "/api/v1/stream", reading, a.serveStream},
		{"GET", "/api/v1/tail", reading, a.serveTail},
		{"GET", "/api/v1/openapi.yaml", anyone, serveOpenAPI},
		{"POST", "/api/v1/token", acting, serveToken},
		{"POST", "/api/v1/lock", acting, a.serveLock},
	}
	for _, x := range actions {
		list = append(list, route{"POST", "/api/v1/actions/" + x.name, acting, a.serveAction(x)})
	}
	return list
}

// Handler returns the endpoints that docs/api.md describes, and the page.
//
// A request to read needs no token if it came in on loopback; to know that, the
// handler must be called by an http.Server.
func (a *Admin) Handler() http.Handler {
	mux := http.NewServeMux()
	list := a.routes()
	for _, r := range list {
		mux.HandleFunc(r.method+" "+r.path, a.permit(r.need, r.serve))
	}
	mux.HandleFunc("/api/", refuseUnknown(list))
	for path, f := range pageFiles {
		mux.HandleFunc("GET "+path, f.serve)
	}
	return a.guard(mux)
}

// refuseUnknown answers under /api/ what no route does.
func refuseUnknown(list []route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		i := slices.IndexFunc(list, func(x route) bool { return x.path == r.URL.Path })
		if i < 0 {
			refuse(w, http.StatusNotFound, "unknown_path", "There is nothing of that name here. See /api/v1/openapi.yaml.")
			return
		}
		allow := strings.Replace(list[i].method, "GET", "GET, HEAD", 1)
		w.Header().Set("Allow", allow)
		refuse(w, http.StatusMethodNotAllowed, "wrong_method", "Want "+allow+".")
	}
}

//go:embed openapi.yaml
var openAPI []byte

func serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openAPI)
}

// serveConfig shows the config in force.
func (a *Admin) serveConfig(w http.ResponseWriter, _ *http.Request) {
	if a.Config == nil {
		refuse(w, http.StatusNotImplemented, "not_available", "The config is not available here.")
		return
	}
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write([]byte(a.Config()))
}

// serveSessions tells what the traffic says of sessions, by application.
func (a *Admin) serveSessions(w http.ResponseWriter, _ *http.Request) {
	if a.XRay == nil {
		refuse(w, http.StatusNotImplemented, "not_available", "Nothing is known of sessions here.")
		return
	}
	writeJSON(w, http.StatusOK, a.XRay.Report())
}

// serveToken tells that the token is the right one, as only then it is called.
func serveToken(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, done{"the token is the right one"})
}

// serveHealth says that the process lives.
func serveHealth(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "ok\n")
}
