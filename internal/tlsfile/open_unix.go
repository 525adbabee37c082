//go:build !windows

package tlsfile

import (
	"fmt"
	"os"
)

// openness says what others may do with a file, "" if nothing that matters. The
// group may read: that is how Kubernetes and systemd pass secrets on.
func openness(file string) string {
	info, err := os.Stat(file)
	if err != nil {
		return ""
	}
	mode := info.Mode().Perm()
	switch {
	case mode&0o022 != 0:
		return fmt.Sprintf("others can write it (mode %04o)", mode)
	case mode&0o004 != 0:
		return fmt.Sprintf("others can read it (mode %04o)", mode)
	}
	return ""
}
