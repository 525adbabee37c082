// Package statefile keeps a small document over restarts, whole or not at all.
//
//	err := statefile.Save("proxy.state", data)
//	data, err := statefile.Load("proxy.state")
//
// The file begins with a line that names format, checksum and length. A file
// that is damaged, or of a newer format, is set aside under another name and
// reported; it never stops the start. What the document means is the caller's.
package statefile

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// format is the number in the first line.
const format = 1

// maxSize bounds what Load reads, in bytes.
const maxSize = 256 << 20

var table = crc32.MakeTable(crc32.Castagnoli)

// Damaged is the error of a file that can't be used. It has been set aside.
type Damaged struct {
	Reason string
	Aside  string // its name now; "" if it could not be renamed
}

// Error tells reason and place.
func (e *Damaged) Error() string {
	if e.Aside == "" {
		return "state file: " + e.Reason
	}
	return "state file: " + e.Reason + "; set aside as " + e.Aside
}

// Save writes data to file so that a crash at any moment leaves the old or the
// new content.
func Save(file string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	head := fmt.Sprintf("stateproxy-state %d %08x %d\n", format, crc32.Checksum(data, table), len(data))
	if _, err = f.Write(append([]byte(head), data...)); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncFolder(filepath.Dir(file))
}

// Load returns what was saved in file, nil if there is no such file. A file that
// can't be used is a *Damaged.
func Load(file string) ([]byte, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	data, reason := parse(all)
	if reason == "" {
		return data, nil
	}
	return nil, SetAside(file, reason)
}

// SetAside renames a file whose content is of no use and returns the error that
// says so.
func SetAside(file, reason string) error {
	e := &Damaged{Reason: reason, Aside: file + ".damaged-" + time.Now().UTC().Format("20060102T150405")}
	if err := os.Rename(file, e.Aside); err != nil {
		e.Reason, e.Aside = reason+"; "+err.Error(), ""
	}
	return e
}

// parse returns the document in a file, or what is wrong with the file.
func parse(all []byte) (data []byte, reason string) {
	head, data, ok := bytes.Cut(all, []byte("\n"))
	var version, length int
	var sum uint32
	if !ok {
		return nil, "is no state file"
	}
	if n, err := fmt.Sscanf(string(head), "stateproxy-state %d %08x %d", &version, &sum, &length); err != nil {
		if n >= 1 && version != format {
			return nil, fmt.Sprintf("has format %d, want %d", version, format)
		}
		return nil, "is no state file"
	}
	switch {
	case version != format:
		return nil, fmt.Sprintf("has format %d, want %d", version, format)
	case length != len(data):
		return nil, fmt.Sprintf("has %d bytes, want %d", len(data), length)
	case crc32.Checksum(data, table) != sum:
		return nil, "does not have the checksum that it names"
	}
	return data, ""
}
