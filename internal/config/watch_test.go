package config

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watched is a Watcher that runs for one test, and what it reported, in order.
type watched struct {
	*Watcher
	reports chan report
}

// report is one call of OnChange, or else of OnError.
type report struct {
	data string
	err  error
}

// startWatch runs w until the test ends. Its reports wait in a channel with room
// for more of them than any test makes.
func startWatch(t *testing.T, w *Watcher) *watched {
	t.Helper()
	r := &watched{Watcher: w, reports: make(chan report, 100)}
	w.OnChange = func(data []byte) { r.reports <- report{data: string(data)} }
	w.OnError = func(err error) { r.reports <- report{err: err} }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v; want nil", err)
		}
	})
	return r
}

// startEvents watches a file by events alone: the next look would be too late.
func startEvents(t *testing.T, file, loaded string) *watched {
	t.Helper()
	return startWatch(t, &Watcher{File: file, Loaded: []byte(loaded), Poll: time.Hour, Settle: 50 * time.Millisecond})
}

func (r *watched) wantChange(t *testing.T, want string) {
	t.Helper()
	if got := <-r.reports; got.err != nil || got.data != want {
		t.Fatalf("reported %q, %v; want OnChange(%q)", got.data, got.err, want)
	}
}

func (r *watched) wantError(t *testing.T, want string) {
	t.Helper()
	if got := <-r.reports; got.err == nil || !strings.Contains(got.err.Error(), want) {
		t.Fatalf("reported %q, %v; want OnError with %q", got.data, got.err, want)
	}
}

func (r *watched) wantQuiet(t *testing.T) {
	t.Helper()
	select {
	case got := <-r.reports:
		t.Fatalf("reported %q, %v; want nothing", got.data, got.err)
	default:
	}
}

func TestWatcherEvents(t *testing.T) {
	replace := func(t *testing.T, file, data string) {
		writeFile(t, file+".new", data)
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name   string
		change func(t *testing.T, file, data string)
	}{
		{"written in place", writeFile},
		{"renamed over", replace},
		{"moved away and written", func(t *testing.T, file, data string) {
			if err := os.Rename(file, file+"~"); err != nil {
				t.Fatal(err)
			}
			writeFile(t, file, data)
		}},
		{"removed and written", func(t *testing.T, file, data string) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			writeFile(t, file, data)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config.yaml")
			writeFile(t, file, "first")
			r := startEvents(t, file, "")
			r.wantChange(t, "first") // so the folder is watched
			tt.change(t, file, "second")
			r.wantChange(t, "second")
			tt.change(t, file, "third")
			r.wantChange(t, "third")
			r.wantQuiet(t)
		})
	}
}

func TestWatcherMissingFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	r := startEvents(t, file, "first")
	r.wantError(t, "config.yaml")
	writeFile(t, file, "second")
	r.wantChange(t, "second")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r.wantError(t, "config.yaml")
}

// noEvents makes a Watcher rely on looking, which works in a synctest bubble.
func noEvents() (*fsnotify.Watcher, error) { return nil, errors.New("no more watches") }

// startPolling watches a file that holds the content "first", without events.
func startPolling(t *testing.T) *watched {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, file, "first")
	r := startWatch(t, &Watcher{File: file, Loaded: []byte("first"), open: noEvents})
	r.wantError(t, "start file events: no more watches (looking at "+file+" every 30s)")
	return r
}

// pass lets time go by and everything that is due happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestWatcherPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPolling(t)
		pass(time.Second)
		r.wantQuiet(t)
		writeFile(t, r.File, "second")
		pass(28 * time.Second)
		r.wantQuiet(t)
		pass(2 * time.Second)
		r.wantChange(t, "second")

		writeFile(t, r.File, "second")
		pass(10 * time.Minute)
		r.wantQuiet(t)
	})
}

// TestWatcherSettles writes on and on; only what holds still is reported.
func TestWatcherSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPolling(t)
		pass(30 * time.Second)
		for i := range 20 {
			writeFile(t, r.File, strings.Repeat("x", i+1))
			pass(200 * time.Millisecond)
			r.wantQuiet(t)
		}
		pass(200 * time.Millisecond)
		r.wantChange(t, strings.Repeat("x", 20))
	})
}

func TestWatcherReportsErrorOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPolling(t)
		pass(time.Second)
		remove := func() {
			if err := os.Remove(r.File); err != nil {
				t.Fatal(err)
			}
		}
		remove()
		pass(time.Minute)
		r.wantError(t, "config.yaml")
		pass(10 * time.Minute)
		r.wantQuiet(t)

		writeFile(t, r.File, "first") // back as it was
		pass(time.Minute)
		r.wantQuiet(t)
		remove()
		pass(time.Minute)
		r.wantError(t, "config.yaml")
	})
}

func TestWatcherPoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPolling(t)
		pass(time.Second)
		r.Poke()
		synctest.Wait()
		r.wantQuiet(t)

		writeFile(t, r.File, "second")
		r.Poke()
		r.Poke()
		synctest.Wait()
		r.wantChange(t, "second")

		if err := os.Remove(r.File); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			r.Poke()
			synctest.Wait()
			r.wantError(t, "config.yaml")
		}
		pass(10 * time.Minute)
		r.wantQuiet(t)
	})
}

// TestWatcherPokeBeforeRun holds that a poke is not lost.
func TestWatcherPokeBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "config.yaml")
		writeFile(t, file, "second")
		w := &Watcher{File: file, Loaded: []byte("first"), open: noEvents}
		w.Poke()
		r := startWatch(t, w)
		r.wantError(t, "no more watches")
		synctest.Wait()
		r.wantChange(t, "second") // though no time went by
	})
}

// TestWatcherEventErrors sends errors as the system would.
func TestWatcherEventErrors(t *testing.T) {
	events, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, file, "first")
	r := startWatch(t, &Watcher{
		File: file, Poll: time.Hour,
		open: func() (*fsnotify.Watcher, error) { return events, nil },
	})
	r.wantChange(t, "first")
	events.Errors <- fsnotify.ErrEventOverflow // no news for people
	events.Errors <- errors.New("lost a buffer")
	events.Errors <- errors.New("lost a buffer")
	events.Errors <- errors.New("lost two")
	r.wantError(t, "lost a buffer")
	r.wantError(t, "lost two")
	r.wantQuiet(t)
}

// TestWatcherFolderReplaced holds that Run outlives a folder that is missing at
// first, then removed, then back.
func TestWatcherFolderReplaced(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "etc")
	file := filepath.Join(folder, "config.yaml")
	r := startWatch(t, &Watcher{File: file, Poll: 50 * time.Millisecond, Settle: 50 * time.Millisecond})
	r.wantError(t, "watch "+folder)
	r.wantError(t, "read config")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, "first")
	r.wantChange(t, "first")
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	for range 2 { // of the folder and of the file, in any order
		r.wantError(t, folder)
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, "second")
	r.wantChange(t, "second")
}

func TestWatcherWithoutCallbacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "config.yaml")
		writeFile(t, file, "new")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w := &Watcher{File: file, open: noEvents}
		if err := w.Run(ctx); err != nil {
			t.Errorf("Run() = %v; want nil", err)
		}
	})
}
