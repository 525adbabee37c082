package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"

	"stateproxy/internal/config"
)

// restarts are how long Windows waits before it starts the service again after
// its first, second and every later failure. The count begins anew after a day.
var restarts = []mgr.RecoveryAction{
	{Type: mgr.ServiceRestart, Delay: time.Second},
	{Type: mgr.ServiceRestart, Delay: 10 * time.Second},
	{Type: mgr.ServiceRestart, Delay: time.Minute},
}

const (
	forgetFailures = 24 * 60 * 60 // seconds
	shutdownTime   = 60 * 1000    // ms that Windows waits for the drain when it shuts down
)

// do carries out an action.
func (s service) do(std stdio, action string) int {
	act := map[string]func(stdio) error{
		"install": s.install, "uninstall": s.uninstall, "start": s.start, "stop": s.stop,
		"reload": s.reload, "status": s.status, "run": s.run,
	}[action]
	err := act(std)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		err = fmt.Errorf("%w (run it as administrator)", err)
	}
	if err != nil {
		return failed(std, "service "+action, err)
	}
	return exitOK
}

// install makes the service. What it has made is removed again if the rest fails.
func (s service) install(std stdio) (err error) {
	if _, _, err := config.Load(s.config); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	m, err := mgr.Connect()
	if err != nil {
		return fmt.Errorf("connect to the service control manager: %w", err)
	}
	defer m.Disconnect()
	sv, err := m.CreateService(s.name, exe, mgr.Config{
		StartType: mgr.StartAutomatic, ErrorControl: mgr.ErrorNormal,
		ServiceStartName: s.account(),
		DisplayName:      "ASP.NET session proxy (" + s.name + ")",
		Description:      "Routes ASP.NET sessions over a pool of state servers.",
	}, s.arguments()...)
	if err != nil {
		return fmt.Errorf("create service %s: %w", s.name, err)
	}
	defer sv.Close()
	defer func() {
		if err != nil {
			sv.Delete()
		}
	}()
	if err := s.setUp(std, sv); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "service %s is installed, account %s\nconfig %s\nlog    %s\n", s.name, s.account(), s.config, s.log)
	if _, err := os.Stat(s.config); err != nil {
		fmt.Fprintln(std.out, "There is no config yet. Put it there, then: stateproxy service start")
	}
	return nil
}

// setUp does what a new service needs beside being there.
func (s service) setUp(std stdio, sv *mgr.Service) error {
	settings := []struct {
		what string
		set  func() error
	}{
		{"restarts after a crash", func() error { return sv.SetRecoveryActions(restarts, forgetFailures) }},
		{"restarts after an error", func() error { return sv.SetRecoveryActionsOnNonCrashFailures(true) }},
		{"time for the drain at shutdown", func() error { return setShutdownTime(sv) }},
	}
	for _, c := range settings {
		err := c.set()
		if errors.Is(err, windows.ERROR_INVALID_LEVEL) { // not a whole Windows; the service runs all the same
			fmt.Fprintf(std.err, "this system does not know: %s\n", c.what)
		} else if err != nil {
			return fmt.Errorf("set %s: %w", c.what, err)
		}
	}
	if err := s.makeFolders(); err != nil {
		return err
	}
	// What an earlier installation left there says the same.
	_ = eventlog.Remove(s.name)
	if err := eventlog.InstallAsEventCreate(s.name, eventlog.Info|eventlog.Warning|eventlog.Error); err != nil {
		return fmt.Errorf("register as a source of events: %w", err)
	}
	return nil
}

// setShutdownTime sets how long Windows waits for the service when it shuts down.
func setShutdownTime(sv *mgr.Service) error {
	info := struct{ ms uint32 }{shutdownTime}
	return windows.ChangeServiceConfig2(sv.Handle, windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, (*byte)(unsafe.Pointer(&info)))
}

// makeFolders makes the service's folders and gives them their rights. What was
// put elsewhere keeps the rights that it has there.
func (s service) makeFolders() error {
	for _, folder := range []string{s.folder, filepath.Dir(s.config), filepath.Dir(s.log), s.state} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	if err := takeOver(s.folder); err != nil {
		return err
	}
	config, work := folderRights(serviceSID(s.name))
	if err := setRights(s.folder, config); err != nil {
		return err
	}
	for _, folder := range s.workFolders() {
		if err := setRights(folder, work); err != nil {
			return err
		}
	}
	return nil
}

// setRights gives the folder and all below the rights.
func setRights(folder, rights string) error {
	descriptor, err := windows.SecurityDescriptorFromString(rights)
	if err != nil {
		return fmt.Errorf("rights of %s: %w", folder, err)
	}
	list, _, err := descriptor.DACL()
	if err != nil {
		return fmt.Errorf("rights of %s: %w", folder, err)
	}
	const what = windows.DACL_SECURITY_INFORMATION | windows.PROTECTED_DACL_SECURITY_INFORMATION
	if err := windows.SetNamedSecurityInfo(folder, windows.SE_FILE_OBJECT, what, nil, nil, list, nil); err != nil {
		return fmt.Errorf("set rights of %s: %w", folder, err)
	}
	return nil
}

// takeOver makes the administrators the owners of all that is there already: any
// user may make folders in %ProgramData%, and an owner can give himself rights.
func takeOver(folder string) error {
	administrators, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	if err != nil {
		return fmt.Errorf("account of the administrators: %w", err)
	}
	return filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		err = windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION, administrators, nil, nil, nil)
		if err != nil {
			return fmt.Errorf("set owner of %s: %w", path, err)
		}
		return nil
	})
}

func (s service) uninstall(std stdio) error {
	return s.with(func(sv *mgr.Service) error {
		if err := s.stopAndWait(sv); err != nil {
			return err
		}
		if err := sv.Delete(); err != nil {
			return fmt.Errorf("delete service %s: %w", s.name, err)
		}
		if err := eventlog.Remove(s.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the source of events: %w", err)
		}
		fmt.Fprintf(std.out, "service %s is removed; %s and the logs stay\n", s.name, s.config)
		return nil
	})
}

func (s service) start(std stdio) error {
	return s.with(func(sv *mgr.Service) error {
		if err := sv.Start(); err != nil && !errors.Is(err, windows.ERROR_SERVICE_ALREADY_RUNNING) {
			return fmt.Errorf("start service %s: %w", s.name, err)
		}
		if err := s.await(sv, svc.Running); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "service %s runs\n", s.name)
		return nil
	})
}

func (s service) stop(std stdio) error {
	return s.with(func(sv *mgr.Service) error {
		if err := s.stopAndWait(sv); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "service %s has stopped\n", s.name)
		return nil
	})
}

// stopAndWait stops the service, if it runs, and waits for its end.
func (s service) stopAndWait(sv *mgr.Service) error {
	if _, err := sv.Control(svc.Stop); errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) {
		return nil
	} else if err != nil {
		return fmt.Errorf("stop service %s: %w", s.name, err)
	}
	return s.await(sv, svc.Stopped)
}

func (s service) reload(std stdio) error {
	return s.with(func(sv *mgr.Service) error {
		if _, err := sv.Control(svc.ParamChange); err != nil {
			return fmt.Errorf("service %s: %w", s.name, err)
		}
		fmt.Fprintf(std.out, "service %s looks at its config; the log tells what came of it\n", s.name)
		return nil
	})
}

// status shows the service. It is an error if it does not run.
func (s service) status(std stdio) error {
	return s.with(func(sv *mgr.Service) error {
		now, err := sv.Query()
		if err != nil {
			return fmt.Errorf("ask for the state of service %s: %w", s.name, err)
		}
		fmt.Fprintf(std.out, "state    %s\nprocess  %d\n", stateName(now.State), now.ProcessId)
		c, err := sv.Config()
		if err == nil {
			fmt.Fprintf(std.out, "account  %s\nstart    %s\ncommand  %s\n", c.ServiceStartName, startName(c.StartType), c.BinaryPathName)
		} else if !errors.Is(err, windows.ERROR_INVALID_LEVEL) { // as in setUp
			return fmt.Errorf("ask for the config of service %s: %w", s.name, err)
		}
		if now.State != svc.Running {
			return fmt.Errorf("service %s: %s", s.name, stateName(now.State))
		}
		return nil
	})
}

// with calls f with the service.
func (s service) with(f func(*mgr.Service) error) error {
	m, err := mgr.Connect()
	if err != nil {
		return fmt.Errorf("connect to the service control manager: %w", err)
	}
	defer m.Disconnect()
	sv, err := m.OpenService(s.name)
	if err != nil {
		return fmt.Errorf("open service %s: %w", s.name, err)
	}
	defer sv.Close()
	return f(sv)
}

// await waits until the service is in the state. Nobody tells of it, so it is
// asked again and again.
func (s service) await(sv *mgr.Service, want svc.State) error {
	limit := time.After(s.timeout)
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		now, err := sv.Query()
		switch {
		case err != nil:
			return fmt.Errorf("ask for the state of service %s: %w", s.name, err)
		case now.State == want:
			return nil
		case now.State == svc.Stopped:
			return fmt.Errorf("service %s has ended with code %d: see %s and the event log", s.name, now.ServiceSpecificExitCode, s.log)
		}
		select {
		case <-again.C:
		case <-limit:
			return fmt.Errorf("service %s is still %s after %v", s.name, stateName(now.State), s.timeout)
		}
	}
}

func stateName(state svc.State) string {
	switch state {
	case svc.Stopped:
		return "stopped"
	case svc.StartPending:
		return "starting"
	case svc.StopPending:
		return "stopping"
	case svc.Running:
		return "running"
	}
	return fmt.Sprintf("in state %d", state)
}

func startName(start uint32) string {
	switch start {
	case mgr.StartAutomatic:
		return "automatic"
	case mgr.StartManual:
		return "by hand"
	case mgr.StartDisabled:
		return "disabled"
	}
	return fmt.Sprintf("of type %d", start)
}
