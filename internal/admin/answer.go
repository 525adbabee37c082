package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// problem is the answer to a request under /api/ that is refused.
type problem struct {
	Error string `json:"error"` // for people
	Code  string `json:"code"`  // stable, for programs
}

// refuse answers with a problem.
func refuse(w http.ResponseWriter, status int, code, text string) {
	writeJSON(w, status, problem{text, code})
}

// writeJSON sends an answer. An error to write it would be the client's, who is
// gone.
func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		writeText(w, http.StatusInternalServerError, fmt.Sprintf("encode the answer: %v\n", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// writeText sends a plain answer.
func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}
