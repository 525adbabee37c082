package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"sort"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxFile is far above any real config: a thousand backends take some 100 KiB.
const maxFile = 1 * mib

// byteOrderMark is what Windows editors put before UTF-8 text.
var byteOrderMark = []byte("\ufeff")

// Load reads and parses the file. It also returns the bytes read, for
// Watcher.Loaded; they are nil only if the file could not be read. The error is
// Problems if the content is at fault, else that of the file system. With an
// error the Config is nil.
func Load(file string) (*Config, []byte, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, nil, err
	}
	c, err := Parse(file, data)
	return c, data, err
}

// readFile reads a whole file, following symlinks, up to maxFile and a byte:
// what is longer is for Parse to refuse.
func readFile(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	if !info.Mode().IsRegular() { // a pipe would block for ever
		return nil, fmt.Errorf("read config: %s is not a regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// Parse decodes data over Default and checks it. The file's name serves the
// messages only. The error is Problems, all of them; with one the Config is nil.
// Parse may be called from several goroutines.
func Parse(file string, data []byte) (*Config, error) {
	d := &decoder{file: file, at: map[string]position{}, bad: map[string]bool{}}
	c := Default()
	if root := d.root(data); root != nil {
		schema(c).decode(d, root, "")
		check(c, d)
	}
	if len(d.problems) > 0 {
		d.problems.sort()
		return nil, d.problems
	}
	return c, nil
}

// root finds the one mapping that the file must be, or reports why there is none.
func (d *decoder) root(data []byte) *yaml.Node {
	if len(data) > maxFile {
		d.reject(position{}, "", "want at most %s of YAML", formatSize(maxFile))
		return nil
	}
	data = bytes.TrimPrefix(data, byteOrderMark)
	if at := invalidUTF8(data); at >= 0 {
		d.reject(positionOf(data, at), "", "want UTF-8 text, got the byte 0x%02x", data[at])
		return nil
	}
	docs, err := documents(data)
	if err != nil {
		d.rejectSyntax(data, err)
		return nil
	}
	if len(docs) > 1 {
		d.reject(nodePosition(docs[1]), "", "want one YAML document, got a second one")
		return nil
	}
	if len(docs) == 0 || isNull(docs[0].Content[0]) {
		d.reject(position{1, 1}, "", "the file is empty, want at least the key backends")
		return nil
	}
	root := docs[0].Content[0]
	if !d.plain(root, "") {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		d.reject(nodePosition(root), "", "want keys and values such as listen: 127.0.0.1:42424, got %s", got(root))
		return nil
	}
	return root
}

// documents parses the first two YAML documents: one is wanted, a second is
// enough to complain of.
func documents(data []byte) (docs []*yaml.Node, err error) {
	// The YAML package panics on some malformed input, and no file, however
	// broken, may take a running proxy down.
	defer func() {
		if r := recover(); r != nil {
			docs, err = nil, fmt.Errorf("yaml: %v", r)
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for len(docs) < 2 {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		docs = append(docs, &doc)
	}
	return docs, nil
}

var yamlPrefix = regexp.MustCompile(`^yaml: (line \d+: )?`)

func (d *decoder) rejectSyntax(data []byte, err error) {
	line := syntaxLine(data, err)
	hint := ""
	if text := lineOf(data, line); strings.HasPrefix(strings.TrimLeft(text, " "), "\t") {
		hint = " (indent with spaces, not tabs)"
	}
	problem := yamlPrefix.ReplaceAllString(err.Error(), "")
	d.reject(position{line: line}, "", "not valid YAML: %s%s", problem, hint)
}

// syntaxLine finds the line at which parsing broke. The line that the YAML
// package names is often that of the enclosing block's start, so look for the
// shortest run of lines that breaks in the very same way.
func syntaxLine(data []byte, want error) int {
	lines := bytes.SplitAfter(data, []byte("\n"))
	ends := make([]int, len(lines))
	end := 0
	for i, line := range lines {
		end += len(line)
		ends[i] = end
	}
	i := sort.Search(len(ends)-1, func(i int) bool {
		_, err := documents(data[:ends[i]])
		return err != nil && err.Error() == want.Error()
	})
	return i + 1
}

// lineOf is the text of a line, counted from 1.
func lineOf(data []byte, line int) string {
	lines := bytes.Split(data, []byte("\n"))
	return string(lines[line-1])
}

// invalidUTF8 is the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

func positionOf(data []byte, offset int) position {
	before := data[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return position{
		line: bytes.Count(before, []byte("\n")) + 1,
		col:  utf8.RuneCount(before[start:]) + 1,
	}
}
