//go:build unix

package statefile

import (
	"errors"
	"os"
)

// syncFolder makes a rename in the folder last over a crash.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
