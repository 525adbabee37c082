// Command pack makes the release archives from binaries that scripts/dist has
// built: for each platform one archive and one bill of materials, and the
// checksums of all of them. What it writes depends on its arguments and input
// files alone: not on the clock, the user, the machine or file modes.
//
//	go run ./scripts/pack -version v1.2.0 -commit 4f1c… -time 1795569009 -builds DIR -out dist
//
// DIR holds a folder for each platform, such as linux-amd64, with the binary in
// it. It is run at the root of the repository and needs the go command, which
// knows the modules in a binary and where they are kept.
package main

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// release is what all archives of a run have in common.
type release struct {
	version string
	commit  string
	time    time.Time // of the commit; stands for every time in the archives
	root    string    // of the repository
	out     string    // the folder that is written to
}

// entry is a file in an archive.
type entry struct {
	name       string // with slashes, below the archive's own folder
	data       []byte
	executable bool
}

func main() {
	var r release
	flag.StringVar(&r.version, "version", "", "version of the release")
	flag.StringVar(&r.commit, "commit", "", "commit that the binaries were built from")
	seconds := flag.Int64("time", 0, "time of the commit, seconds since 1970")
	builds := flag.String("builds", "", "folder with one folder for each platform")
	flag.StringVar(&r.out, "out", "dist", "folder to write to")
	flag.Parse()
	r.root, r.time = ".", time.Unix(*seconds, 0).UTC()
	if err := r.pack(*builds); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// pack writes everything for the platforms that are found in builds.
func (r *release) pack(builds string) error {
	if r.version == "" || r.commit == "" || r.time.Unix() == 0 {
		return errors.New("want -version, -commit and -time")
	}
	platforms, err := os.ReadDir(builds)
	if err != nil {
		return err
	}
	if len(platforms) == 0 {
		return fmt.Errorf("no platform in %s", builds)
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	var written []string
	for _, p := range platforms {
		names, err := r.packPlatform(builds, p.Name())
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name(), err)
		}
		written = append(written, names...)
	}
	return r.writeSums(written)
}

// packPlatform writes archive and bill of materials of one platform, such as
// linux-amd64, and returns their names.
func (r *release) packPlatform(builds, platform string) ([]string, error) {
	goos, goarch, ok := strings.Cut(platform, "-")
	if !ok {
		return nil, errors.New("want a folder named like linux-amd64")
	}
	binary := filepath.Join(builds, platform, binaryName(goos))
	parts, err := readParts(r.root, binary, goos, goarch)
	if err != nil {
		return nil, err
	}
	bill, err := r.bill(parts, goos, goarch)
	if err != nil {
		return nil, err
	}
	entries, err := r.entries(goos)
	if err != nil {
		return nil, err
	}
	entries = append(entries, entry{name: binaryName(goos), data: parts.binary, executable: true},
		entry{name: "sbom.cdx.json", data: bill})
	entries = append(entries, parts.licences...)
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })

	name := fmt.Sprintf("stateproxy_%s_%s_%s", r.version, goos, goarch)
	archive, form := name+".tar.gz", tarred
	if goos == "windows" {
		archive, form = name+".zip", zipped
	}
	data, err := form(name, entries, r.time)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(r.out, archive), data, 0o644); err != nil {
		return nil, err
	}
	return []string{archive, name + ".cdx.json"}, os.WriteFile(filepath.Join(r.out, name+".cdx.json"), bill, 0o644)
}

// writeSums writes SHA256SUMS in the form that sha256sum -c reads.
func (r *release) writeSums(names []string) error {
	slices.Sort(names)
	var sums strings.Builder
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(r.out, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), name)
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(sums.String()), 0o644)
}

func binaryName(goos string) string {
	if goos == "windows" {
		return "stateproxy.exe"
	}
	return "stateproxy"
}
