// Package logfile writes to a file that is set aside when it has grown to a size,
// and keeps the last few of them:
//
//	f := &logfile.File{Path: "stateproxy.log"}
//	defer f.Close()
//	logger := log.New(f, "", 0)
//
// The files before are stateproxy.1.log, the latest, to stateproxy.5.log. The
// folder must exist, and no other process may write there.
package logfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// File is a log file. Set the fields before the first Write and leave them alone.
// Write and Close may be called from any goroutine. It opens the file at the first
// Write, and at the next one after Close.
type File struct {
	Path    string
	MaxSize int64 // bytes; 0: 10 MiB. A longer line has a file of its own
	Keep    int   // files kept beside Path; 0: 5

	mu    sync.Mutex // guards what follows
	file  *os.File   // nil: not open
	size  int64
	limit int64 // of size, at which the file is set aside
}

func (f *File) maxSize() int64 {
	if f.MaxSize > 0 {
		return f.MaxSize
	}
	return 10 << 20
}

func (f *File) keep() int {
	if f.Keep > 0 {
		return f.Keep
	}
	return 5
}

// Write appends p, which should be whole lines, for it is never divided. When the
// file can't be set aside, for example since another program holds it open on
// Windows, it grows on, and the next try comes after as much again.
func (f *File) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.open(); err != nil {
		return 0, err
	}
	if f.size > 0 && f.size+int64(len(p)) > f.limit {
		if err := f.setAside(); err != nil {
			return 0, err
		}
	}
	n, err := f.file.Write(p)
	f.size += int64(n)
	return n, err
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}

// open opens the file to append to it, unless it is open. f.mu is held.
func (f *File) open() error {
	if f.file != nil {
		return nil
	}
	file, err := os.OpenFile(f.Path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	f.file, f.size, f.limit = file, info.Size(), f.maxSize()
	return nil
}

// setAside goes on with an empty file, or with the old one if it can't be moved.
// f.mu is held.
func (f *File) setAside() error {
	if err := f.file.Close(); err != nil {
		return err
	}
	f.file = nil
	moved := f.shift()
	if err := f.open(); err != nil {
		return errors.Join(err, moved)
	}
	if moved != nil {
		f.limit = f.size + f.maxSize()
	}
	return nil
}

// shift renames every file to the next number. The last one is overwritten.
func (f *File) shift() error {
	for n := f.keep() - 1; n >= 0; n-- {
		err := os.Rename(f.numbered(n), f.numbered(n+1))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// numbered returns the name of the nth file before; 0 is Path.
func (f *File) numbered(n int) string {
	if n == 0 {
		return f.Path
	}
	ext := filepath.Ext(f.Path)
	return fmt.Sprintf("%s.%d%s", strings.TrimSuffix(f.Path, ext), n, ext)
}
