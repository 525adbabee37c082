// Package browser lets tests see and use a page as people do, in a real headless
// Chromium:
//
//	b := browser.Open(t, url)
//	b.Until("that all is well", `document.title.startsWith("✓")`)
//	b.Do(chromedp.Click("#reload"))
//	b.Quiet() // fails if the page has complained on its console
//
// Without a browser a test that wants one is skipped and says so; with
// STATEPROXY_CI in the environment it fails.
package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// chromiums are what it may be called.
var chromiums = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}

// Find returns the path of a browser. Without one the test is left out, and fails
// where everything has to be there.
func Find(t *testing.T) string {
	t.Helper()
	for _, name := range chromiums {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("STATEPROXY_CI") != "" {
		t.Fatalf("no browser is installed: want one of %s", strings.Join(chromiums, ", "))
	}
	t.Skipf("left out: no browser is installed (one of %s)", strings.Join(chromiums, ", "))
	return ""
}

// Tab is a page in a browser of its own. It is made by Open and belongs to one
// test at a time, that of T.
type Tab struct {
	T *testing.T // fails if something goes wrong; may be set to a subtest's

	ctx  context.Context
	mu   sync.Mutex
	says []string // warnings and errors on the console
}

// Open opens url in a browser of its own, which ends with the test.
func Open(t *testing.T, url string) *Tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(Find(t)),
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))
	if runtime.GOOS == "linux" && os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // which the sandbox does not let root do without
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(alloc)
	b := &Tab{T: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil { // starts it
		t.Fatal(err)
	}
	listening := make(chan struct{})
	messages := chromedp.Console(ctx)
	go func() {
		defer close(listening)
		for m, err := range messages {
			if err == nil && (m.IsException() || m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning) {
				b.mu.Lock()
				b.says = append(b.says, m.String())
				b.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		chromedp.Cancel(ctx)
		cancel()
		stop()
		<-listening
	})
	b.Size(1240, 900)
	b.Do(chromedp.Navigate(url))
	return b
}

// Do carries out steps; they have 30 s.
func (b *Tab) Do(steps ...chromedp.Action[chromedp.Void]) {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.T.Fatal(err)
	}
}

// Eval runs an expression in the page.
func Eval[T any](b *Tab, expression string) T {
	b.T.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.T.Fatalf("%s: %v", expression, err)
	}
	return v
}

// Is reports whether an expression is true; one that fails is not.
func (b *Tab) Is(expression string) bool {
	b.T.Helper()
	return Eval[bool](b, "(() => { try { return Boolean("+expression+"); } catch { return false; } })()")
}

// Until waits for an expression to be true, 40 s at most. What it speaks of may
// not be there yet. what names it if it does not come.
func (b *Tab) Until(what, expression string) {
	b.T.Helper()
	limit := time.After(40 * time.Second)
	for !b.Is(expression) {
		select {
		case <-limit:
			b.Shoot("failed")
			b.T.Fatalf("did not see %s; the page says:\n%s", what, Eval[string](b, "document.body.innerText"))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Size makes the page so many pixels wide and high.
func (b *Tab) Size(width, height int64) { b.Do(chromedp.EmulateViewport(width, height)) }

// Fill puts a value into the field that selector finds.
func (b *Tab) Fill(selector, value string) {
	b.T.Helper()
	Eval[string](b, fmt.Sprintf("document.querySelector(%q).value = %q", selector, value))
}

// Scheme makes the page light or dark.
func (b *Tab) Scheme(name string) {
	b.Do(func(ctx context.Context, t *chromedp.Target) (v chromedp.Void, err error) {
		_, err = cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return v, err
	})
}

// Shoot keeps a picture of the whole page in the folder STATEPROXY_SCREENSHOTS.
func (b *Tab) Shoot(name string) {
	b.T.Helper()
	dir := os.Getenv("STATEPROXY_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		b.T.Error(err)
	}
}

// Quiet fails the test if the page had anything to complain of.
func (b *Tab) Quiet() {
	b.T.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range b.says {
		b.T.Errorf("on the console: %s", line)
	}
}

// Forgive drops what the page has complained of so far.
func (b *Tab) Forgive() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.says = nil
}
