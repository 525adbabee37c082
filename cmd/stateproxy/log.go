package main

import (
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"stateproxy/internal/config"
)

// newLogger returns the log as the config wants it: JSON, or lines for people
// where a terminal shows them.
func newLogger(w io.Writer, c config.Log) zerolog.Logger {
	if c.Format == "text" || c.Format == "auto" && isTerminal(w) {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: "15:04:05.000", NoColor: !isTerminal(w) || os.Getenv("NO_COLOR") != ""}
	}
	return zerolog.New(zerolog.SyncWriter(w)).Level(logLevel(c.Level)).With().Timestamp().Logger()
}

func logLevel(name string) zerolog.Level {
	level, err := zerolog.ParseLevel(name)
	if err != nil { // the config has checked it
		return zerolog.InfoLevel
	}
	return level
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func init() {
	zerolog.TimeFieldFormat = time.RFC3339Nano
}
