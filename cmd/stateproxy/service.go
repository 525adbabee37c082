package main

import (
	"context"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// service is a Windows service as its command line describes it.
type service struct {
	name    string
	folder  string // %ProgramData%\NAME; only install asks
	config  string
	log     string
	state   string        // folder for what must outlive the process
	timeout time.Duration // for start and stop
}

// serviceActions are what can be done with it. The last is what the service
// control manager starts.
var serviceActions = []string{"install", "uninstall", "start", "stop", "reload", "status", "run"}

const serviceHelp = `usage: stateproxy service install|uninstall|start|stop|reload|status [flags]

Runs the proxy as a Windows service: with the computer, under an account of its
own that may do nothing else, and again when it fails.

install    makes the service for this binary where it lies, and the folder
           %ProgramData%\stateproxy for config.yaml, state and logs
uninstall  stops it and removes it; config and logs stay
start      starts it and waits until it serves
stop       has it finish what is under way, and waits for that
reload     has it look at its config file now, which it does anyway when it changes
status     shows its state; exits 0 if it runs

`

func runService(_ context.Context, std stdio, args []string) int {
	action, s, status, ok := parseService(std, args)
	if !ok {
		return status
	}
	return s.do(std, action)
}

// parseService returns what the arguments want. If ok is false the subcommand
// ends with status.
func parseService(std stdio, args []string) (action string, s service, status int, ok bool) {
	fs := flags(std, "service", "")
	fs.Usage = func() {
		io.WriteString(fs.Output(), serviceHelp)
		fs.PrintDefaults()
	}
	fs.StringVar(&s.name, "name", "stateproxy", "`NAME` of the service; another one runs beside the first")
	fs.StringVar(&s.config, "config", "", "config `FILE` (default %ProgramData%\\NAME\\config.yaml)")
	fs.StringVar(&s.log, "log", "", "log `FILE` (default %ProgramData%\\NAME\\logs\\stateproxy.log)")
	fs.StringVar(&s.state, "state", "", "`FOLDER` for what must outlive a restart (default %ProgramData%\\NAME\\state)")
	fs.DurationVar(&s.timeout, "timeout", 2*time.Minute, "how long start and stop wait")
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		action, args = args[0], args[1:]
	}
	if status, ok := parse(std, fs, args); !ok {
		return "", s, status, false
	}
	if !slices.Contains(serviceActions, action) {
		fs.Usage()
		return "", s, exitUsage, false
	}
	if !goodServiceName(s.name) {
		fmt.Fprintf(std.err, "stateproxy service: -name %q: want 1..64 of A-Z a-z 0-9 . _ -\n", s.name)
		return "", s, exitUsage, false
	}
	return action, s.withDefaults(os.Getenv("ProgramData")), exitOK, true
}

// withDefaults returns s with its files in the folder for programs' data unless
// they were named, and with full paths: a service runs in another folder.
func (s service) withDefaults(programData string) service {
	s.folder = filepath.Join(programData, s.name)
	if s.config == "" {
		s.config = filepath.Join(s.folder, "config.yaml")
	}
	if s.log == "" {
		s.log = filepath.Join(s.folder, "logs", "stateproxy.log")
	}
	if s.state == "" {
		s.state = filepath.Join(s.folder, "state")
	}
	for _, file := range []*string{&s.config, &s.log, &s.state} {
		if abs, err := filepath.Abs(*file); err == nil {
			*file = abs
		}
	}
	return s
}

// workFolders are those that the service writes to and that are its own.
func (s service) workFolders() (folders []string) {
	for _, folder := range []string{s.state, filepath.Dir(s.log)} {
		if strings.HasPrefix(folder, s.folder+string(filepath.Separator)) {
			folders = append(folders, folder)
		}
	}
	return folders
}

// arguments are those that the service is started with.
func (s service) arguments() []string {
	return []string{"service", "run", "-name", s.name, "-config", s.config, "-log", s.log, "-state", s.state}
}

// account is the service's own: Windows makes it, it has no password, and only
// the rights that are given to it by name.
func (s service) account() string { return `NT SERVICE\` + s.name }

// goodServiceName tells whether name is good for a service, a folder and an
// account alike.
func goodServiceName(name string) bool {
	return len(name) >= 1 && len(name) <= 64 && strings.Trim(name, ".") != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	})
}

// serviceSID returns the security identifier of a service's own account, which
// Windows makes of the name: the SHA-1 of its upper-case form in UTF-16.
func serviceSID(name string) string {
	var text []byte
	for _, c := range utf16.Encode([]rune(strings.ToUpper(name))) {
		text = binary.LittleEndian.AppendUint16(text, c)
	}
	sum := sha1.Sum(text)
	sid := "S-1-5-80"
	for part := range slices.Chunk(sum[:], 4) {
		sid += "-" + strconv.FormatUint(uint64(binary.LittleEndian.Uint32(part)), 10)
	}
	return sid
}

// Rights of a service's folders, in Windows' notation: all for the system and
// administrators, none for other users. The service itself reads its config, but
// changes only what is in the folders of its state and its log.
const (
	administratorsOnly = "D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)" // with all files and folders below
	readToo            = "(A;OICI;0x1200a9;;;%s)"                // the account may list and read
	writeToo           = "(A;OICI;0x1301ff;;;%s)"                // and make, change and delete
)

// folderRights returns the rights of the folder that holds the config, and of
// those below that the service writes to.
func folderRights(sid string) (config, work string) {
	return administratorsOnly + fmt.Sprintf(readToo, sid), administratorsOnly + fmt.Sprintf(writeToo, sid)
}
