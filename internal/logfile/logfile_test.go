package logfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, f *File, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if n, err := f.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("Write(%q) = %d, %v; want %d, nil", line, n, err, len(line))
		}
	}
}

func TestFile(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  []string // of Path, .1, .2, .3
	}{
		{"nothing", nil, []string{"", "", "", ""}},
		{"fits", []string{"1234\n", "678\n"}, []string{"1234\n678\n", "", "", ""}},
		{"to the byte", []string{"12345\n", "890\n"}, []string{"12345\n890\n", "", "", ""}},
		{"a byte more", []string{"12345\n", "8901\n"}, []string{"8901\n", "12345\n", "", ""}},
		{"the oldest goes", []string{"aaaaaaaa\n", "bbbbbbbb\n", "cccccccc\n", "dddddddd\n"}, []string{"dddddddd\n", "cccccccc\n", "bbbbbbbb\n", ""}},
		{"a long line alone", []string{"a\n", "0123456789abcdef\n", "b\n"}, []string{"b\n", "0123456789abcdef\n", "a\n", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			folder := t.TempDir()
			f := &File{Path: filepath.Join(folder, "x.log"), MaxSize: 10, Keep: 2}
			write(t, f, tt.lines...)
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			for i, name := range []string{"x.log", "x.1.log", "x.2.log", "x.3.log"} {
				if got := read(t, filepath.Join(folder, name)); got != tt.want[i] {
					t.Errorf("%s holds %q; want %q", name, got, tt.want[i])
				}
			}
		})
	}
}

func TestReopen(t *testing.T) {
	f := &File{Path: filepath.Join(t.TempDir(), "log"), MaxSize: 10}
	write(t, f, "12345\n")
	f.Close()
	write(t, f, "890\n") // what was there counts
	write(t, f, "x\n")
	f.Close()
	if got, before := read(t, f.Path), read(t, f.Path+".1"); got != "x\n" || before != "12345\n890\n" {
		t.Errorf("files hold %q and %q; want %q and %q", got, before, "x\n", "12345\n890\n")
	}
}

func TestFileThatCannotBeMoved(t *testing.T) {
	f := &File{Path: filepath.Join(t.TempDir(), "log"), MaxSize: 4, Keep: 1}
	// A folder that holds something can't be overwritten by a rename.
	wall, brick := f.Path+".1", filepath.Join(f.Path+".1", "in the way")
	if err := os.MkdirAll(brick, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, f, "aaa\n", "bbb\n", "c\n")
	if got, want := read(t, f.Path), "aaa\nbbb\nc\n"; got != want {
		t.Errorf("file holds %q; want all: %q", got, want)
	}
	if err := errors.Join(os.Remove(brick), os.Remove(wall)); err != nil {
		t.Fatal(err)
	}
	write(t, f, "ddd\n") // beyond twice the limit: the next try
	f.Close()
	if got, before := read(t, f.Path), read(t, f.Path+".1"); got != "ddd\n" || before != "aaa\nbbb\nc\n" {
		t.Errorf("files hold %q and %q; want %q and the rest", got, before, "ddd\n")
	}
}

func TestNoFolder(t *testing.T) {
	f := &File{Path: filepath.Join(t.TempDir(), "none", "log")}
	if n, err := f.Write([]byte("x\n")); n != 0 || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Write without a folder = %d, %v; want 0, %v", n, err, fs.ErrNotExist)
	}
	if err := f.Close(); err != nil {
		t.Errorf("Close() = %v; want nil", err)
	}
}

// TestWriters holds that no line is lost, divided or mixed with another.
func TestWriters(t *testing.T) {
	folder := t.TempDir()
	f := &File{Path: filepath.Join(folder, "x.log"), MaxSize: 500, Keep: 1000}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 100 {
				fmt.Fprintf(f, "writer %d line %d\n", w, i)
			}
		})
	}
	wg.Wait()
	f.Close()
	seen := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(folder, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text := read(t, file)
		if len(text) > 500 {
			t.Errorf("%s has %d bytes; want 500 at most", file, len(text))
		}
		for line := range strings.Lines(text) {
			seen[line] = true
		}
	}
	for w := range 8 {
		for i := range 100 {
			if line := fmt.Sprintf("writer %d line %d\n", w, i); !seen[line] {
				t.Fatalf("no file holds %q whole", line)
			}
		}
	}
	if len(seen) != 800 {
		t.Errorf("files hold %d different lines; want 800", len(seen))
	}
}

func BenchmarkWrite(b *testing.B) {
	f := &File{Path: filepath.Join(b.TempDir(), "log")}
	defer f.Close()
	line := []byte(strings.Repeat("x", 199) + "\n")
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := f.Write(line); err != nil {
			b.Fatal(err)
		}
	}
}
