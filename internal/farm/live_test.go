package farm

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"stateproxy/stateserver"
)

// TestStateServer runs the farm as fast as it goes against the embedded state
// server, over TCP.
func TestStateServer(t *testing.T) {
	server := stateserver.RunT(t)
	f, err := New(Config{Targets: []string{server.Addr()}, Sessions: 50, Duration: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, phase := range []func(context.Context) error{f.Fill, f.Run, f.Verify} {
		if err := phase(t.Context()); err != nil {
			t.Error(err)
		}
	}
	r := f.Report()
	if !r.OK() || r.PageErrors() > 0 || r.PagesServed() < 100 {
		t.Errorf("OK() = %v, %d page errors, %d pages; want OK, none, many", r.OK(), r.PageErrors(), r.PagesServed())
	}
	t.Log(r.Text())
}

// TestStateServerRestarts takes the server's sessions away again and again.
func TestStateServerRestarts(t *testing.T) {
	server := stateserver.RunT(t)
	mix := DefaultMix()
	mix.Parallel = 0.3
	f, err := New(Config{Targets: []string{server.Addr()}, Sessions: 30, Duration: time.Second, Mix: mix, PollInterval: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	f.Excuse(func(string) bool { return true })
	if err := f.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				server.Reset()
			case <-done:
				return
			}
		}
	})
	if err := f.Run(t.Context()); err != nil {
		t.Error(err)
	}
	close(done)
	wg.Wait()
	if err := f.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if r := f.Report(); !r.OK() || r.Excused[AlarmLost] == 0 {
		t.Errorf("OK() = %v, %d excused; want OK and some\n%s", r.OK(), r.Excused[AlarmLost], r.Text())
	}
}

func ExampleFarm() {
	var server stateserver.Server
	addr, stop := serve(&server)
	defer stop()
	f, err := New(Config{
		Targets: []string{addr}, Sessions: 10, PagesPerSecond: 200, Duration: 100 * time.Millisecond,
		Mix: Mix{ReadWrite: 70, ReadOnly: 30, Changed: 1}, // nobody logs out
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	fmt.Println(f.Fill(ctx), f.Run(ctx), f.Verify(ctx))
	r := f.Report()
	fmt.Println(r.Sessions, "sessions, damage:", r.Damage(), "page errors:", r.PageErrors())
	// Output:
	// <nil> <nil> <nil>
	// 10 sessions, damage: 0 page errors: 0
}

func BenchmarkPages(b *testing.B) {
	var server stateserver.Server
	addr, stop := serve(&server)
	defer stop()
	f, err := New(Config{Targets: []string{addr}, Mix: Mix{ReadWrite: 70, ReadOnly: 20, Head: 10, Changed: 0.7}})
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Fill(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	t := f.threads[0]
	for b.Loop() {
		kind, slot, s := t.pick()
		t.serve(b.Context(), kind, slot, s)
	}
	f.workers[0].pool.close()
	if r := f.Report(); !r.OK() || r.PageErrors() > 0 {
		b.Error(r.Text())
	}
}

// serve runs a state server on a free loopback port.
func serve(s *stateserver.Server) (addr string, stop func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(ln)
	}()
	return ln.Addr().String(), func() {
		s.Close()
		<-done
	}
}
