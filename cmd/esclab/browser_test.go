package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// browser is a headless Chromium, driven by its DevTools protocol.
type browser struct {
	address string // host:port
	// patience is how long a page may take to answer one question: one that is
	// asked while the page changes may never be answered.
	patience time.Duration
}

// envBrowser asks for the tests in a browser: make ui-check sets it. They are
// no part of every test run, since they take minutes on a busy machine.
const envBrowser = "ESCLAB_TEST_BROWSER"

// startBrowser starts Chromium, or skips the test where none is wanted or there.
func startBrowser(t *testing.T, ctx context.Context) browser {
	t.Helper()
	if os.Getenv(envBrowser) == "" {
		t.Skip("set " + envBrowser + "=1, as make ui-check does, to look at the web UI in Chromium")
	}
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("there is no chromium on the PATH")
	}
	// Not t.TempDir: its helpers may still write when the browser has ended.
	profile, err := os.MkdirTemp("", "esclab-browser-*")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--window-size=1920,1080",
		"--remote-debugging-port=0", "--remote-allow-origins=*", "--user-data-dir="+profile, "about:blank")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	said, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // with its helpers
		_ = c.Wait()
		for range 50 {
			if os.RemoveAll(profile) == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if _, rest, ok := strings.Cut(lines.Text(), "listening on ws://"); ok {
			address, _, _ := strings.Cut(rest, "/")
			go func() {
				for lines.Scan() { // or its pipe is full some day
				}
			}()
			return browser{address, 10 * time.Second}
		}
	}
	t.Fatal("chromium ended before it listened")
	return browser{}
}

// shows opens a page and waits until a JavaScript expression gives a text that
// holds all that is wanted. A page that the browser loses is opened again.
func (b browser) shows(t *testing.T, ctx context.Context, url, expression string, want ...string) {
	t.Helper()
	b.showsOn(t, ctx, nil, url, expression, want...)
}

// emulation is what a page is told of the screen, by commands of the DevTools protocol.
type emulation map[string]any

// screenOf is a screen of a width in pixels, whose user prefers light or dark.
func screenOf(width int, scheme string) emulation {
	return emulation{
		"Emulation.setDeviceMetricsOverride": map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false},
		"Emulation.setEmulatedMedia":         map[string]any{"features": []map[string]any{{"name": "prefers-color-scheme", "value": scheme}}},
	}
}

// showsOn is shows on another screen than the browser's own.
func (b browser) showsOn(t *testing.T, ctx context.Context, on emulation, url, expression string, want ...string) {
	t.Helper()
	text, err := "", error(nil)
	for deadline := time.Now().Add(12 * b.patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if text, err = b.read(ctx, on, url, expression, want, deadline); err == nil && missing(text, want) == "" {
			return
		}
	}
	t.Errorf("%s does not show %q but (%v)\n%.3000s", url, missing(text, want), err, text)
}

// read gives what the expression gives in the page, as soon as it has all that
// is wanted, or at the deadline.
func (b browser) read(ctx context.Context, on emulation, url, expression string, want []string, deadline time.Time) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+b.address+"/json/new", nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var tab struct {
		Socket string `json:"webSocketDebuggerUrl"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&tab); err != nil {
		return "", err
	}
	socket, err := websocket.Dial(tab.Socket, "", "http://"+b.address)
	if err != nil {
		return "", err
	}
	defer func() {
		_ = websocket.JSON.Send(socket, map[string]any{"id": 2, "method": "Page.close"})
		socket.Close()
	}()
	for method, params := range on {
		if err := websocket.JSON.Send(socket, map[string]any{"id": 3, "method": method, "params": params}); err != nil {
			return "", err
		}
	}
	if err := websocket.JSON.Send(socket, map[string]any{"id": 0, "method": "Page.navigate", "params": map[string]any{"url": url}}); err != nil {
		return "", err
	}
	text := ""
	for time.Now().Before(deadline) {
		if text, err = b.evaluate(socket, expression); err != nil || missing(text, want) == "" {
			return text, err
		}
		time.Sleep(200 * time.Millisecond)
	}
	return text, nil
}

func missing(text string, want []string) string {
	for _, w := range want {
		if !strings.Contains(text, w) {
			return w
		}
	}
	return ""
}

// evaluate gives the string that an expression gives in the page; "" while it
// fails, as it does before the page has what it looks for.
func (b browser) evaluate(socket *websocket.Conn, expression string) (string, error) {
	if err := socket.SetDeadline(time.Now().Add(b.patience)); err != nil {
		return "", fmt.Errorf("ask chromium: %w", err)
	}
	err := websocket.JSON.Send(socket, map[string]any{"id": 1, "method": "Runtime.evaluate",
		"params": map[string]any{"expression": expression, "returnByValue": true}})
	if err != nil {
		return "", fmt.Errorf("ask chromium: %w", err)
	}
	for {
		var answer struct {
			ID     int
			Result struct{ Result struct{ Value any } }
		}
		if err := websocket.JSON.Receive(socket, &answer); err != nil {
			return "", fmt.Errorf("chromium's answer: %w", err)
		}
		if answer.ID == 1 {
			text, _ := answer.Result.Result.Value.(string)
			return text, nil
		}
	}
}
