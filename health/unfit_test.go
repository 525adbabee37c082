package health_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// A target that must not be used is out at once, however many others are out and
// even if it is the only one, and in again as soon as a probe passes.
func TestUnfit(t *testing.T) {
	tests := []struct {
		name  string
		names []string
	}{
		{"the only one", []string{"s1"}},
		{"with others", []string{"s1", "s2", "s3"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(steady, tt.names...)
				f.set(errLoop, tt.names...)
				f.run(t)
				pass(time.Second)
				for _, name := range tt.names {
					if s := f.status(t, name); s.Up || !s.Unfit || s.Kept || s.Reason != errLoop.Error() {
						t.Errorf("Status() of %s = %+v; want it out of service as unfit, for %q", name, s, errLoop)
					}
				}
				f.set(errRefused, tt.names...) // that it can't be reached now does not make it fit
				pass(10 * time.Second)
				if s := f.status(t, "s1"); s.Up || !s.Unfit {
					t.Errorf("Status() when it can't be reached = %+v; want it out of service still", s)
				}
				f.set(nil, tt.names...)
				pass(4 * time.Second)
				if s := f.status(t, "s1"); !s.Up || s.Unfit {
					t.Errorf("Status() when probes pass = %+v; want it in service", s)
				}
			})
		})
	}
}

// Others are ejected only if the unfit ones leave room in the share.
func TestUnfitTakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2")
		f.set(errLoop, "s1")
		f.set(errRefused, "s2")
		f.run(t)
		pass(20 * time.Second)
		f.wantLog(t, "0s s1 down", "4s s2 kept")
	})
}
