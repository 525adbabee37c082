package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"

	"stateproxy/internal/config"
	"stateproxy/internal/logfile"
)

// Event IDs. Those above 1000 would need a file of messages of our own.
const (
	eventLife    = 1
	eventWarning = 2
	eventError   = 3
)

// stopProgress is how often Windows hears that a stop goes on. It gives up on a
// service that says nothing for longer than it said it would.
const stopProgress = time.Second

// run is what the service control manager starts.
func (s service) run(std stdio) error {
	// Windows tells services too when a user logs off. That is none of our
	// business; stops and shutdowns come from the service control manager.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM)
	s.keepCrashes()
	if err := os.Setenv("STATE_DIRECTORY", s.state); err != nil { // as systemd does
		return err
	}
	file := &logfile.File{Path: s.log}
	defer file.Close()
	events, err := eventlog.Open(s.name)
	if err != nil {
		return fmt.Errorf("open the event log: %w", err)
	}
	defer events.Close()
	err = svc.Run(s.name, &serviceRun{service: s, log: zerolog.MultiLevelWriter(file, &eventWriter{events}), life: events})
	if errors.Is(err, windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) {
		return fmt.Errorf("only Windows itself starts it so; by hand: stateproxy run -config %s", s.config)
	}
	return err
}

// keepCrashes has the runtime write its last words to a file: a service has no
// standard error. Where that fails there is nobody to tell.
func (s service) keepCrashes() {
	file, err := os.OpenFile(filepath.Join(filepath.Dir(s.log), "crash.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return
	}
	defer file.Close() // the runtime has its own
	_ = debug.SetCrashOutput(file, debug.CrashOptions{})
}

// lifeLog takes the events that are no log lines: that the service runs, has
// stopped, or could not start.
type lifeLog interface {
	Info(id uint32, text string) error
	Error(id uint32, text string) error
}

// serviceRun is the service in the eyes of Windows.
type serviceRun struct {
	service
	log  io.Writer
	life lifeLog
}

// Execute implements svc.Handler: it serves until it is told to stop, then drains.
func (r *serviceRun) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (specific bool, code uint32) {
	status <- svc.Status{State: svc.StartPending, WaitHint: 30_000}
	c, raw, err := config.Load(r.config)
	if err != nil {
		return r.broken(err)
	}
	a := newApp(c, r.config, raw, newLogger(r.log, c.Log))
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- a.run(ctx) }()
	select {
	case err := <-ended:
		return r.broken(err)
	case <-a.started:
	}
	_ = r.life.Info(eventLife, fmt.Sprintf("stateproxy %s runs by %s; it logs to %s", version, r.config, r.service.log))
	running := svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown | svc.AcceptParamChange}
	status <- running
	for {
		select {
		case err := <-ended:
			return r.broken(err)
		case q := <-requests:
			switch q.Cmd {
			case svc.Interrogate:
				status <- running
			case svc.ParamChange:
				a.askReload()
				status <- running
			case svc.Stop, svc.Shutdown, svc.PreShutdown:
				stop()
				return r.drained(ended, requests, status)
			}
		}
	}
}

// askReload has the config file read now.
func (a *app) askReload() {
	select {
	case a.hup <- syscall.SIGHUP:
	default: // it is going to be
	}
}

// drained tells Windows how the stop goes on until it is complete.
func (r *serviceRun) drained(ended <-chan error, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (specific bool, code uint32) {
	stopping := svc.Status{State: svc.StopPending, WaitHint: uint32(10 * stopProgress / time.Millisecond)}
	tick := time.NewTicker(stopProgress)
	defer tick.Stop()
	for {
		status <- stopping
		select {
		case err := <-ended:
			if err != nil {
				return r.broken(err)
			}
			_ = r.life.Info(eventLife, "stateproxy has stopped")
			return false, 0
		case <-requests: // whatever is asked, this is the answer
		case <-tick.C:
			stopping.CheckPoint++
		}
	}
}

// broken tells why the service can't go on, and has Windows restart it.
func (r *serviceRun) broken(err error) (specific bool, code uint32) {
	_ = r.life.Error(eventError, fmt.Sprintf("stateproxy could not go on: %v", err))
	log := zerolog.New(r.log).With().Timestamp().Logger()
	log.Log().Str("level", "fatal").Err(err).Msg("the service ends")
	return true, exitError
}

// eventWriter puts warnings and errors of the log into the Windows event log too.
// An event that is not taken is in the log file all the same.
type eventWriter struct {
	events interface {
		Warning(id uint32, text string) error
		Error(id uint32, text string) error
	}
}

// Write implements io.Writer, for lines without a level.
func (w *eventWriter) Write(line []byte) (int, error) { return len(line), nil }

// WriteLevel implements zerolog.LevelWriter.
func (w *eventWriter) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	const limit = 30_000 // characters; Windows takes 31,839
	text := strings.TrimSpace(string(line[:min(len(line), limit)]))
	switch {
	case level >= zerolog.ErrorLevel && level < zerolog.NoLevel:
		_ = w.events.Error(eventError, text)
	case level == zerolog.WarnLevel:
		_ = w.events.Warning(eventWarning, text)
	}
	return len(line), nil
}
