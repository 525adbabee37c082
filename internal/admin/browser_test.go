package admin

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

// findBrowser returns the path of one. Without one the test is left out, and
// fails where everything has to be there.
func findBrowser(t *testing.T) string {
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

// tab is a page in a real browser.
type tab struct {
	t    *testing.T
	ctx  context.Context
	mu   sync.Mutex
	says []string // warnings and errors on the console
}

// openTab opens url in a browser of its own, which ends with the test.
func openTab(t *testing.T, url string) *tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(findBrowser(t)),
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))
	if runtime.GOOS == "linux" && os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // which the sandbox does not let root do without
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(alloc)
	b := &tab{t: t, ctx: ctx}
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
	b.size(1240, 900)
	b.do(chromedp.Navigate(url))
	return b
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// eval runs an expression in the page.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits for an expression to be true. What it speaks of may not be there
// yet.
func (b *tab) until(what, expression string) {
	b.t.Helper()
	limit := time.After(40 * time.Second)
	for !eval[bool](b, "(() => { try { return Boolean("+expression+"); } catch { return false; } })()") {
		select {
		case <-limit:
			b.shoot("failed")
			b.t.Fatalf("did not see %s; the page says:\n%s", what, eval[string](b, "document.body.innerText"))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (b *tab) size(width, height int64) { b.do(chromedp.EmulateViewport(width, height)) }

// fill puts a value into the field that selector finds.
func (b *tab) fill(selector, value string) {
	b.t.Helper()
	eval[string](b, fmt.Sprintf("document.querySelector(%q).value = %q", selector, value))
}

// scheme makes the page light or dark.
func (b *tab) scheme(name string) {
	b.do(func(ctx context.Context, t *chromedp.Target) (v chromedp.Void, err error) {
		_, err = cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return v, err
	})
}

// shoot keeps a picture of the whole page in the folder STATEPROXY_SCREENSHOTS.
func (b *tab) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("STATEPROXY_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// quiet fails the test if the page had anything to complain of.
func (b *tab) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range b.says {
		b.t.Errorf("on the console: %s", line)
	}
}

// row is an expression for a part of a backend's row.
func row(backend, selector string) string {
	return fmt.Sprintf("document.querySelector('[data-backend=%q] %s').textContent", backend, selector)
}
