package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/esclab/esclab/internal/whole"
	"github.com/esclab/esclab/results/nightly"
	"github.com/esclab/esclab/workflows"
)

// webhookLimit bounds one call of a webhook.
const webhookLimit = 15 * time.Second

// notice is what a webhook and a file are told.
type notice struct {
	Schedule   string               `json:"schedule"`
	Night      string               `json:"night"`
	Verdict    string               `json:"verdict"`
	Effects    string               `json:"effects,omitempty"`
	Headline   string               `json:"headline"`
	Experiment string               `json:"experiment"`
	Revision   string               `json:"revision"`
	Newest     string               `json:"newest,omitempty"`
	Run        string               `json:"run,omitempty"`
	Workflow   string               `json:"workflow"`
	Started    time.Time            `json:"started"`
	Finished   time.Time            `json:"finished"`
	Findings   []nightly.Finding    `json:"findings"`
	Record     workflows.StoredFile `json:"record"`
	Report     workflows.StoredFile `json:"report"`
}

// NotifyNight tells the verdict to the schedule's webhook and file. A webhook
// that is told twice, because its answer got lost, finds the same header
// Idempotency-Key.
func (a *Activities) NotifyNight(ctx context.Context, in workflows.NotifyInput) (string, error) {
	night := in.Night
	data, err := a.Store.GetScheduleFile(ctx, night.Schedule, nightsDir+in.Result.Night+".json")
	if err != nil {
		return "", fmt.Errorf("record of night %s: %w", in.Result.Night, err)
	}
	r, err := nightly.Decode(data)
	if err != nil {
		return "", err
	}
	body, err := json.MarshalIndent(notice{
		Schedule: r.Schedule, Night: r.Night, Verdict: in.Result.Verdict, Effects: in.Result.Effects, Headline: in.Result.Headline, Experiment: r.Experiment,
		Revision: r.Revision, Newest: r.Newest, Run: r.Run, Workflow: r.Workflow, Started: r.Started, Finished: r.Finished,
		Findings: r.Findings, Record: in.Result.Record, Report: in.Result.Report,
	}, "", " ")
	if err != nil {
		return "", err
	}
	var told []string
	if night.Notify.File != "" {
		if err := a.writeNotice(night.Notify.File, body); err != nil {
			return "", classify(fmt.Errorf("notify file %s: %w", night.Notify.File, err))
		}
		// As the schedule has it: where the worker keeps its files is nothing
		// for a history.
		told = append(told, night.Notify.File)
	}
	if night.Notify.Webhook != "" {
		if err := a.callWebhook(ctx, night.Notify.Webhook, r.Schedule+"/"+r.Night, body); err != nil {
			return "", classify(fmt.Errorf("webhook: %w", err))
		}
		told = append(told, hostOf(night.Notify.Webhook))
	}
	return strings.Join(told, ", "), nil
}

// writeNotice writes a file that is whole at every moment, in a directory that
// the worker allows.
func (a *Activities) writeNotice(name string, body []byte) error {
	if len(a.Nightly.Directories) == 0 {
		return badInput(errors.New("this worker has no directory for it"))
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(a.Nightly.Directories[0], name)
	}
	name = filepath.Clean(name)
	allowed := false
	for _, dir := range a.Nightly.Directories {
		rest, err := filepath.Rel(dir, name)
		allowed = allowed || err == nil && filepath.IsLocal(rest) && rest != "."
	}
	if !allowed {
		return badInput(fmt.Errorf("outside %s: add its directory to nightly.directories of the worker's temporal.yaml", strings.Join(a.Nightly.Directories, ", ")))
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return whole.Write(name, whole.Public, append(body, '\n'))
}

// callWebhook posts the notice. Temporal tries again what may pass: no answer,
// a server's own failure, a limit. Redirects are not followed: they would carry
// the secret elsewhere.
func (a *Activities) callWebhook(ctx context.Context, address, night string, body []byte) error {
	if !slices.ContainsFunc(a.Nightly.Webhooks, func(prefix string) bool { return covers(prefix, address) }) {
		return badInput(fmt.Errorf("this worker may not call %s: add it to nightly.webhooks of its temporal.yaml", hostOf(address)))
	}
	ctx, stop := context.WithTimeout(ctx, webhookLimit)
	defer stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return badInput(errors.New("not a URL"))
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "esclab/"+a.Nightly.Revision)
	request.Header.Set("Idempotency-Key", night)
	if a.Nightly.Secret != nil {
		if secret := a.Nightly.Secret(); secret != "" {
			request.Header.Set("Authorization", "Bearer "+secret)
		}
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) { // its text has the whole address, which may hold a token
			err = u.Err
		}
		return fmt.Errorf("%s: %w", hostOf(address), err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<16)) // so that the connection can be closed in order
	switch code := response.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return fmt.Errorf("%s answers %s", hostOf(address), response.Status)
	}
	return badInput(fmt.Errorf("%s answers %s", hostOf(address), response.Status))
}

// covers tells whether an address is below another: same scheme and host, and a
// path at or below its path.
func covers(prefix, address string) bool {
	p, err1 := url.Parse(prefix)
	u, err2 := url.Parse(address)
	if err1 != nil || err2 != nil || p.Scheme != u.Scheme || !strings.EqualFold(p.Host, u.Host) || u.User != nil {
		return false
	}
	below := strings.TrimSuffix(p.Path, "/")
	at := path.Clean("/" + u.Path)
	return at == below || strings.HasPrefix(at, below+"/")
}

// hostOf names a webhook without its path, which often is its secret.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "the webhook"
	}
	return u.Scheme + "://" + u.Host
}
