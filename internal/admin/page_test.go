package admin

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"stateproxy/health"
	"stateproxy/internal/browser"
	"stateproxy/internal/xray"
	"stateproxy/proxy"
)

// row is an expression for a part of a backend's row.
func row(backend, selector string) string {
	return fmt.Sprintf("document.querySelector('[data-backend=%q] %s').textContent", backend, selector)
}

// well waits until the page shows a site that is well.
func well(b *browser.Tab) {
	b.T.Helper()
	b.Until("that all is well", `document.querySelector("#headline").textContent === "All is well"`)
	b.Until("traffic", `Number(document.querySelector("#plot-requests-value").textContent) > 0`)
	b.Until("three backends up", `document.querySelector("#backends-count").textContent === "3 of 3 up"`)
}

func TestPageFollowsADyingBackend(t *testing.T) {
	browser.Find(t)
	s := newSite(t)
	b := browser.Open(t, s.url+"/")
	well(b)
	s.servers[1].Close()
	b.Until("that s2 is down", row("s2", ".tag")+` === "down"`)
	b.Until("why", row("s2", ".why")+`.includes("refused")`)
	b.Until("the verdict", `document.querySelector("#verdict").dataset.level === "error"`)
	b.Until("the finding", `document.querySelector("#findings").textContent.includes("s2 out of service")`)
	b.Until("the event", `document.querySelector("#events [data-kind=backend_ejected]").textContent.includes("s2")`)
	b.Until("two backends up", `document.querySelector("#backends-count").textContent === "2 of 3 up"`)
	b.Until("that the others own its sessions", row("s1", "[data-label=Sessions]")+` === "50 %"`)
	b.Until("the handoff", `document.querySelector("#moves").textContent.includes("Handoff in default")`)
	b.Until("the title", `document.title.startsWith("✕")`)
	s.admin.Loaded(Reload{At: time.Now(), Error: "stateproxy.yaml:3:1: bakends: no such key\nstateproxy.yaml:9:5: weight: want 1..1000, got 0"})
	b.Until("the refused config", `document.querySelector("#reloads [data-ok=false]").textContent.includes("bakends")`)
	b.Until("its event", `document.querySelector("#events [data-kind=config_refused]").textContent.includes("weight: want")`)
	b.Shoot("down")
	b.Quiet()
}

func TestPageActsWithTheTokenOnly(t *testing.T) {
	browser.Find(t)
	s := newSite(t)
	b := browser.Open(t, s.url+"/")
	well(b)
	click := func(selector string) { b.Do(chromedp.Click(selector)) }
	const result = `document.querySelector("#dialog-result").textContent`

	click(`[data-backend=s2] .act button`)
	b.Until("the token field", `document.querySelector("#token")`)
	if browser.Eval[bool](b, `document.querySelector("[data-action]") !== null`) {
		t.Error("actions are offered without the token")
	}
	b.Do(chromedp.SendKeys("#token", "a wrong one"))
	click("#unlock")
	b.Until("that it is wrong", result+`.includes("not the right one")`)
	click("#dialog-close")
	click(`[data-backend=s2] .act button`)
	b.Until("the empty token field again", `document.querySelector("#token").value === ""`)
	b.Do(chromedp.SendKeys("#token", siteToken+"\r"))
	b.Until("the actions", `document.querySelector("[data-action=drain]")`)
	b.Shoot("dialog")
	click(`[data-action=drain]`)
	b.Until("that it is done", result+` === "drain s2"`)
	click("#dialog-close")
	b.Until("that s2 drains", row("s2", ".tag")+` === "draining"`)
	b.Until("the event", `document.querySelector("#events [data-kind=action_done]").textContent.includes("drain s2")`)

	click(`[data-backend=s1] .act button`)
	b.Fill("[aria-label=Weight]", "3")
	click(`[data-action=weight]`)
	b.Until("the new weight", row("s1", "td:first-child")+`.includes("weight 3")`)
	click("#dialog-close")
	click("#operate")
	click(`[data-action=reload]`)
	b.Until("why the reload failed", result+`.includes("no such key")`)
	click("#lock")
	b.Until("that the token is forgotten", `document.querySelector("#operate").textContent === "Unlock"`)
	if browser.Eval[bool](b, `JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie]).includes("horse")`) {
		t.Error("the browser has stored the token")
	}
	b.Forgive() // answers 401 and 409, which a browser tells by itself
	b.Until("that it goes on", `document.querySelector("#live").dataset.state === "live"`)
	b.Quiet()
}

func TestPageSaysWhenItIsStale(t *testing.T) {
	browser.Find(t)
	a := showing(farm())
	ln, ended := serve(t, a)
	ticks := make(chan struct{})
	go func() { // Run, as it were, but for who watches the clock
		for range ticks {
			a.tick()
		}
	}()
	a.history.begin(a.snapshot())
	b := browser.Open(t, "http://"+ln.Addr().String()+"/")
	ticks <- struct{}{}
	b.Until("that it is live", `document.querySelector("#live").dataset.state === "live"`)
	b.Until("that it is stale", `document.querySelector("#live").dataset.state === "stale"`)
	b.Until("since when", `/stale for \d+ s/.test(document.querySelector("#live").textContent)`)
	b.Until("that this is the past", `document.querySelector("#headline").textContent === "Last known: all is well"`)
	ticks <- struct{}{}
	b.Until("that it is live again", `document.querySelector("#live").dataset.state === "live"`)
	b.Quiet()

	address := ln.Addr().String()
	ln.Close()
	<-ended
	b.Until("that it is stale", `document.querySelector("#live").dataset.state === "stale"`)
	again := listenAgain(t, address)
	go a.Serve(again)
	t.Cleanup(func() { again.Close() })
	b.Until("that it has connected again", `document.querySelector("#live").dataset.state === "live"`)
	close(ticks)
}

// hostile are texts that a page may take for more than texts.
var hostile = []string{
	`<img src=x onerror="window.owned=1">`, `"><script>window.owned=1</script>`, `'-alert(1)-'`, `javascript:window.owned=1`,
	`</style><svg onload="window.owned=1">`, "\u202egnitset", `${window.owned=1}`, `{{constructor.constructor("window.owned=1")()}}`,
}

func TestPageShowsHostileTextAsText(t *testing.T) {
	browser.Find(t)
	all := strings.Join(hostile, " ")
	state := farm()
	state.Backends[0].Name, state.Backends[0].Address, state.Backends[0].State = hostile[0], hostile[1], proxy.Down
	state.Pools[0].Name, state.Pools[0].Applications = hostile[2]+hostile[0], hostile
	state.Pools[0].Owners[0].Name = hostile[0]
	state.Pools[0].Windows = []proxy.WindowStatus{{Ended: time.Now(), Until: time.Now().Add(time.Hour)}}
	state.Evacuations = []proxy.EvacuationStatus{{Backend: all}}
	a := showing(state, health.Status{Name: hostile[0], Reason: all, ProbeErr: all})
	a.Token = func() string { return siteToken }
	a.Version, a.File = hostile[0], hostile[1]
	a.Config = func() string { return all }
	a.Loaded(Reload{At: time.Now(), Error: all})
	a.Loaded(Reload{At: time.Now(), OK: true, Changes: hostile})
	a.Note(Event{Kind: Kind(hostile[0]), Level: Level(hostile[1]), Backend: hostile[4], Text: all})
	a.Findings = func() []Finding {
		return []Finding{{Level: Warn, Kind: Kind(hostile[0]), Backend: hostile[1], App: hostile[2], Text: all}}
	}
	a.XRay = sessionsOf(hostile...)
	ln, _ := serve(t, a)
	a.history.begin(a.snapshot())
	a.tick()
	b := browser.Open(t, "http://"+ln.Addr().String()+"/")
	b.Until("the finding", fmt.Sprintf(`document.querySelector("#findings").textContent.includes(%q)`, hostile[0]))
	b.Until("the event", fmt.Sprintf(`document.querySelector("#events").textContent.includes(%q)`, hostile[3]))
	b.Until("the reload", fmt.Sprintf(`document.querySelector("#reloads").textContent.includes(%q)`, hostile[7]))
	b.Do(chromedp.Click("#config-details summary"))
	b.Until("the config", fmt.Sprintf(`document.querySelector("#config-text").textContent.includes(%q)`, hostile[0]))
	b.Do(chromedp.Click("#apps summary"))
	for _, name := range hostile {
		b.Until("the application", fmt.Sprintf(`[...document.querySelectorAll("#apps .name")].some((e) => e.textContent === %q)`, xray.Printable(name)))
	}
	b.Until("the backend", fmt.Sprintf(`document.querySelector("#backends .name").textContent === %q`, hostile[0]))
	if browser.Eval[bool](b, `window.owned !== undefined || document.querySelectorAll("script").length !== 1 || document.querySelectorAll("main img, iframe, [onerror], [onload]").length > 0`) {
		t.Error("text has become part of the page")
	}
	b.Quiet()
}

// contrasts is an expression for the texts that are hard to read: those with a
// contrast below 4.5 to what is behind them.
const contrasts = `(() => {
  const part = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const color = (text) => text.match(/[\d.]+/g).map(Number);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const c = color(getComputedStyle(node).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(color(node.namespaceURI.endsWith("svg") ? style.fill : style.color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(node.textContent.trim().slice(0, 40) + " " + ratio.toFixed(2));
  }
  return bad.join("\n");
})()`

func TestPageIsReadableEverywhere(t *testing.T) {
	browser.Find(t)
	s := newSite(t)
	b := browser.Open(t, s.url+"/")
	well(b)
	s.change("s3", func(b *proxy.Backend) { b.Drain = true })
	s.servers[1].Close()
	b.Until("that s2 is down", row("s2", ".tag")+` === "down"`)
	b.Until("that s3 drains", row("s3", ".tag")+` === "draining"`)
	b.Do(chromedp.Click("#apps summary"))
	b.Until("the application's sessions", `document.querySelectorAll("#apps details[open] .ranking li").length >= 2`)
	for _, scheme := range []string{"light", "dark"} {
		b.Scheme(scheme)
		for _, width := range []int64{360, 768, 1240} {
			t.Run(fmt.Sprintf("%s/%d", scheme, width), func(t *testing.T) {
				b.T = t
				b.Size(width, 800)
				if bad := browser.Eval[string](b, contrasts); bad != "" {
					t.Errorf("contrast below 4.5:\n%s", bad)
				}
				if wide := browser.Eval[int](b, `document.documentElement.scrollWidth`); wide > int(width) {
					t.Errorf("the page is %d wide; want %d", wide, width)
				}
				b.Shoot(fmt.Sprintf("%s-%d", scheme, width))
			})
		}
	}
	b.T = t
	b.Quiet()
}

func TestPageByKeyboard(t *testing.T) {
	browser.Find(t)
	s := newSite(t)
	b := browser.Open(t, s.url+"/")
	well(b)
	var stops []string
	for range 40 {
		b.Do(chromedp.KeyEvent("\t"))
		stop := browser.Eval[string](b, `(() => { const e = document.activeElement; return e === document.body ? "" : (e.id || e.getAttribute("aria-label") || e.textContent.trim()); })()`)
		if stop == "" {
			break
		}
		stops = append(stops, stop)
		if seen := browser.Eval[string](b, `getComputedStyle(document.activeElement).outlineStyle`); seen != "solid" && seen != "auto" {
			t.Errorf("%s has the focus and does not show it: outline %s", stop, seen)
		}
	}
	reached := strings.Join(stops, "|")
	for _, want := range []string{"To the content", "operate", "span-fine", "span-coarse", "Act on s1", "Act on s3", "/LM/W3SVC/1/ROOT", "Config in force", "status", "metrics"} {
		if !strings.Contains(reached, want) {
			t.Errorf("the Tab key does not reach %q: %s", want, reached)
		}
	}
	browser.Eval[bool](b, `document.querySelector("#operate").focus() ?? true`)
	b.Do(chromedp.KeyEvent("\r"))
	b.Until("the dialog, with the focus in it", `document.querySelector("#dialog").open && document.activeElement.id === "token"`)
	b.Do(chromedp.KeyEvent("\x1b"))
	b.Until("that it has closed and the focus is back", `!document.querySelector("#dialog").open && document.activeElement.id === "operate"`)
	if bad := browser.Eval[string](b, `[...document.querySelectorAll("button, input, select, a, svg[role=img]")].filter((e) => e.checkVisibility() && !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length)).map((e) => e.outerHTML).join("\n")`); bad != "" {
		t.Errorf("without a name:\n%s", bad)
	}
	b.Quiet()
}

func TestPageNeedsTheTokenFromOutside(t *testing.T) {
	browser.Find(t)
	a := showing(farm())
	a.Token = func() string { return siteToken }
	ln, _ := serveFrom(t, a, "10.0.0.7:42480")
	a.history.begin(a.snapshot())
	a.tick()
	b := browser.Open(t, "http://"+ln.Addr().String()+"/")
	b.Until("the token field", `document.querySelector("#dialog").open && document.querySelector("#token")`)
	if browser.Eval[bool](b, `document.body.innerText.includes("s1")`) {
		t.Error("something is shown without the token")
	}
	b.Do(chromedp.SendKeys("#token", siteToken+"\r"))
	b.Until("the backends", row("s1", ".tag")+` === "up"`)
	b.Until("the config", `document.querySelector("#config-line").textContent.includes("nothing in force")`)
}

// TestPageTakesNothingFromElsewhere holds that the page is whole by itself and
// that its policy allows nothing else.
func TestPageTakesNothingFromElsewhere(t *testing.T) {
	elsewhere := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9.-]+\.[a-z]{2,}|@import|url\(`)
	scripts := regexp.MustCompile(`(?i)innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.style\s*=|javascript:`)
	h := showing(farm()).Handler()
	for path, f := range pageFiles {
		path = strings.TrimSuffix(path, "{$}")
		r := ask(t, h, "GET "+path)
		body := bodyOf(t, r)
		if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != f.contentType || r.Header.Get("Content-Security-Policy") != pagePolicy || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("GET %s = %d with %v", path, r.StatusCode, r.Header)
		}
		if found := elsewhere.FindAllString(strings.ReplaceAll(body, "http://www.w3.org/2000/svg", ""), -1); found != nil {
			t.Errorf("%s takes from elsewhere: %q", path, found)
		}
		if found := scripts.FindAllString(body, -1); found != nil {
			t.Errorf("%s makes text into more: %q", path, found)
		}
	}
	files, err := os.ReadDir("page")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(pageFiles) {
		t.Errorf("%d files in page, %d are served", len(files), len(pageFiles))
	}
	for _, unsafe := range []string{"unsafe-", "*", "data:", "blob:"} {
		if strings.Contains(pagePolicy, unsafe) {
			t.Errorf("the policy allows %s: %s", unsafe, pagePolicy)
		}
	}
}

// TestPageKnowsAllReasons holds that the page explains every reason.
func TestPageKnowsAllReasons(t *testing.T) {
	js, err := pageFS.ReadFile("page/app.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range reasons[:len(reasons)-1] { // but other
		if !strings.Contains(string(js), "\n  "+reason+`: "`) {
			t.Errorf("app.js does not explain %s", reason)
		}
	}
}
