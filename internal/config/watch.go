package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Watcher tells when the content of a file changes, by whatever means: writing
// in place, an editor's rename, a swapped symlink as Kubernetes does it. It
// listens for events in the file's folder and, as events alone miss changes
// (network drives, a symlink's target elsewhere), also looks now and then. Only
// the content counts: the same bytes are no change.
//
// Set the fields before Run and leave them alone. A Watcher is for one Run.
type Watcher struct {
	File   string
	Loaded []byte        // the content in force when Run starts
	Poll   time.Duration // between looks without an event; 0: 30s
	Settle time.Duration // for which the file must hold still; 0: 200ms

	// OnChange gets the new content, whether or not it is a valid config. It is
	// never called twice for the same content in a row, nor concurrently with
	// itself or OnError. It may keep data. Nil: changes are ignored.
	OnChange func(data []byte)

	// OnError hears that the file can't be read or the folder not be watched,
	// once until that changes. Run goes on. Nil: errors are ignored.
	OnError func(error)

	open func() (*fsnotify.Watcher, error) // nil: fsnotify.NewWatcher

	once  sync.Once
	pokes chan struct{} // holds one: a look that is due covers all that asked for it
}

func (w *Watcher) poll() time.Duration {
	if w.Poll > 0 {
		return w.Poll
	}
	return 30 * time.Second
}

func (w *Watcher) settle() time.Duration {
	if w.Settle > 0 {
		return w.Settle
	}
	return 200 * time.Millisecond
}

// Poke makes Run read the file now, without waiting for it to settle. OnChange
// is called only if the content changed, OnError also for an error that it has
// heard of. Poke does not wait for either, may be called from any goroutine and
// before Run.
func (w *Watcher) Poke() {
	select {
	case w.poked() <- struct{}{}:
	default:
	}
}

func (w *Watcher) poked() chan struct{} {
	w.once.Do(func() { w.pokes = make(chan struct{}, 1) })
	return w.pokes
}

// Run watches until ctx is cancelled, then returns nil.
func (w *Watcher) Run(ctx context.Context) error {
	l := &look{Watcher: w, seen: sha256.Sum256(w.Loaded)}
	if events := l.openEvents(); events != nil {
		l.events = events
		defer events.Close()
		l.follow()
	}
	l.await() // what changed before the folder was watched

	poll := time.NewTicker(w.poll())
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.poked():
			l.check(true)
		case <-l.settled:
			l.settled = nil
			l.check(false)
		case <-poll.C:
			l.follow()
			l.await()
		case <-l.changes():
			l.await()
		case err := <-l.errors():
			l.trouble(err)
			l.await()
		}
	}
}

// look is the state of one Run.
type look struct {
	*Watcher
	events  *fsnotify.Watcher // nil: there are none, so only Poll finds changes
	seen    [sha256.Size]byte // of the content that OnChange had last
	last    content           // what the last read found
	settled <-chan time.Time  // when to read next; nil: no reason to
	unread  string            // the error of reading that OnError has heard of
	unheard string            // the same of the file events
}

// content is what one read found.
type content struct {
	sum [sha256.Size]byte
	err string
}

func (l *look) openEvents() *fsnotify.Watcher {
	open := l.open
	if open == nil {
		open = fsnotify.NewWatcher
	}
	events, err := open()
	if err != nil {
		l.trouble(fmt.Errorf("start file events: %w", err))
		return nil
	}
	return events
}

// follow watches the folder, again if it was replaced by another one.
func (l *look) follow() {
	if l.events == nil {
		return
	}
	folder := filepath.Dir(l.File)
	if err := l.events.Add(folder); err != nil {
		l.trouble(fmt.Errorf("watch %s: %w", folder, err))
		return
	}
	l.unheard = ""
}

// trouble reports an error of the file events, unless it is the last one again.
func (l *look) trouble(err error) {
	if errors.Is(err, fsnotify.ErrEventOverflow) || err.Error() == l.unheard {
		return // too many events say the same as one
	}
	l.unheard = err.Error()
	l.report(fmt.Errorf("%w (looking at %s every %s)", err, l.File, formatDuration(l.poll())))
}

func (l *look) changes() <-chan fsnotify.Event {
	if l.events == nil {
		return nil
	}
	return l.events.Events
}

func (l *look) errors() <-chan error {
	if l.events == nil {
		return nil
	}
	return l.events.Errors
}

// await has the file read soon. A read that is due is not put off, so that a
// busy folder does not hide a change.
func (l *look) await() {
	if l.settled == nil {
		l.settled = time.After(l.settle())
	}
}

// check reads the file and reports what is new, as soon as two reads in a row
// found the same: the first may have met a file half written or half replaced.
func (l *look) check(poked bool) {
	data, err := readFile(l.File)
	found := content{sum: sha256.Sum256(data)}
	if err != nil {
		found.err = err.Error()
	}
	steady := found == l.last || poked
	l.last = found
	switch {
	case err == nil && found.sum == l.seen:
		l.unread = ""
	case !steady:
		l.await()
	case err == nil:
		l.unread, l.seen = "", found.sum
		if l.OnChange != nil {
			l.OnChange(data)
		}
	case found.err != l.unread || poked:
		l.unread = found.err
		l.report(err)
	}
}

func (l *look) report(err error) {
	if l.OnError != nil {
		l.OnError(err)
	}
}
