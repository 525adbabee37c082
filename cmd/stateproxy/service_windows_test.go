package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
)

// eventList takes events in place of Windows.
type eventList struct {
	mu   sync.Mutex
	list []string
}

func (l *eventList) add(kind string, id uint32, text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprintf("%s %d %s", kind, id, text))
	return nil
}

func (l *eventList) Info(id uint32, text string) error    { return l.add("info", id, text) }
func (l *eventList) Warning(id uint32, text string) error { return l.add("warning", id, text) }
func (l *eventList) Error(id uint32, text string) error   { return l.add("error", id, text) }

func (l *eventList) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.list, "\n")
}

// ranService is a service whose manager is the test.
type ranService struct {
	requests chan svc.ChangeRequest
	status   chan svc.Status
	ended    chan uint32
	log      *logText
	events   *eventList
}

func runTestService(t *testing.T, text string) *ranService {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	replaceFile(t, file, text)
	s := &ranService{make(chan svc.ChangeRequest), make(chan svc.Status), make(chan uint32, 1), &logText{}, &eventList{}}
	r := &serviceRun{service: service{name: "stateproxy", config: file, log: file + ".log"}, life: s.events}
	r.log = zerolog.MultiLevelWriter(s.log, &eventWriter{s.events})
	go func() {
		_, code := r.Execute(nil, s.requests, s.status)
		s.ended <- code
	}()
	if got := <-s.status; got.State != svc.StartPending {
		t.Fatalf("first state is %d; want start pending", got.State)
	}
	return s
}

const serviceConfig = "listen: 127.0.0.1:0\nadmin:\n  listen: off\nbackends:\n  - {name: s1, address: 127.0.0.1:1}\n"

func TestServiceStops(t *testing.T) {
	for name, cmd := range map[string]svc.Cmd{"stop": svc.Stop, "shutdown": svc.Shutdown, "preshutdown": svc.PreShutdown} {
		t.Run(name, func(t *testing.T) {
			s := runTestService(t, serviceConfig)
			running := <-s.status
			if running.State != svc.Running || running.Accepts&svc.AcceptPreShutdown == 0 || running.Accepts&svc.AcceptParamChange == 0 {
				t.Errorf("second state is %+v; want running, with all requests accepted", running)
			}
			s.requests <- svc.ChangeRequest{Cmd: svc.Interrogate}
			if got := <-s.status; got != running {
				t.Errorf("when asked the state is %+v; want %+v", got, running)
			}
			s.requests <- svc.ChangeRequest{Cmd: svc.ParamChange}
			<-s.status
			s.requests <- svc.ChangeRequest{Cmd: cmd}
			for code := uint32(99); code == 99; {
				select {
				case got := <-s.status:
					if got.State != svc.StopPending || got.WaitHint == 0 {
						t.Errorf("while it stops the state is %+v; want stop pending, with a hint", got)
					}
				case code = <-s.ended:
					if code != 0 {
						t.Errorf("code %d; want 0\n%s", code, s.log)
					}
				}
			}
			if !strings.Contains(s.log.String(), `"stopped"`) || !strings.Contains(s.events.String(), "info 1 stateproxy has stopped") {
				t.Errorf("log and events lack the end:\n%s\n%s", s.log, s.events)
			}
		})
	}
}

func TestServiceWithBadConfig(t *testing.T) {
	s := runTestService(t, "listen: nonsense\n")
	if code := <-s.ended; code == 0 {
		t.Error("code 0; want one that makes Windows restart it")
	}
	for _, want := range []string{"error 3 ", "config.yaml:1:9", "backends"} {
		if !strings.Contains(s.events.String(), want) {
			t.Errorf("events lack %q:\n%s", want, s.events)
		}
	}
	if !strings.Contains(s.log.String(), "config.yaml:1:9") {
		t.Errorf("log lacks the reason:\n%s", s.log)
	}
}

func TestEventWriter(t *testing.T) {
	var file bytes.Buffer
	events := &eventList{}
	log := zerolog.New(zerolog.MultiLevelWriter(&file, &eventWriter{events}))
	log.Info().Msg("usual")
	log.Warn().Msg("odd")
	log.Error().Msg(strings.Repeat("x", 40_000))
	if got := strings.Count(file.String(), "\n"); got != 3 {
		t.Errorf("file has %d lines; want 3", got)
	}
	if len(events.list) != 2 || !strings.HasPrefix(events.list[0], "warning 2 {") || !strings.HasPrefix(events.list[1], "error 3 {") || len(events.list[1]) > 31_000 {
		t.Errorf("events are %.200s; want a warning and an error, neither too long", events)
	}
}

func TestFolderRightsAreUnderstood(t *testing.T) {
	config, work := folderRights(serviceSID("stateproxy"))
	for _, rights := range []string{config, work} {
		descriptor, err := windows.SecurityDescriptorFromString(rights)
		if err != nil {
			t.Fatal(err)
		}
		if list, _, err := descriptor.DACL(); err != nil || list == nil || list.AceCount != 3 {
			t.Errorf("%s holds %v, %v; want 3 entries", rights, list, err)
		}
	}
}
