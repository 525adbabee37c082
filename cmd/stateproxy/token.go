package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// readToken returns the token in file, and in words how far the file is open to
// users who are neither its owner nor, for reading, of its group; "" if it is not.
func readToken(file string) (token, open string, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", "", err
	}
	token = strings.TrimSpace(string(b))
	if token == "" {
		return "", "", fmt.Errorf("%s is empty", file)
	}
	info, err := os.Stat(file)
	if err != nil {
		return "", "", err
	}
	return token, openness(info.Mode().Perm()), nil
}

// openness says what others may do with a file of that mode. The group may read:
// that is how Kubernetes and systemd pass secrets on. On Windows the mode tells
// nothing; the rights of the folder count, which `service install` sets.
func openness(mode os.FileMode) string {
	switch {
	case runtime.GOOS == "windows":
		return ""
	case mode&0o022 != 0:
		return fmt.Sprintf("others can write it (mode %04o)", mode)
	case mode&0o004 != 0:
		return fmt.Sprintf("others can read it (mode %04o)", mode)
	}
	return ""
}

// token returns what those who act must know, "" if nothing can be had from the
// file. It is asked for often; the same trouble is logged once.
func (a *app) token() string {
	a.mu.Lock()
	file := a.config.Admin.TokenFile
	a.mu.Unlock()
	if file == "" {
		return ""
	}
	token, open, err := readToken(file)
	trouble := open
	if err != nil {
		trouble = err.Error()
	}
	if before := a.tokenTrouble.Swap(&trouble); trouble == "" || before != nil && *before == trouble {
		return token
	}
	if err != nil {
		a.log.Error().Err(err).Msg("admin.token_file can't be read: nobody can act")
	} else {
		a.log.Warn().Str("file", file).Str("reason", open).Msg("admin.token_file is open to other users of this machine")
	}
	return token
}
