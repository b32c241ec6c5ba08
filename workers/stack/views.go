package stack

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// firstVisit runs before the web UI's own script. The UI keeps a person's columns and
// saved views in the browser, by namespace; what is there is that person's and stays.
const firstVisit = `((defaults) => {
	for (const [key, place, value] of defaults) {
		try {
			const kept = JSON.parse(localStorage.getItem(key) ?? "{}");
			if (!(place in kept)) localStorage.setItem(key, JSON.stringify({ ...kept, [place]: value }));
		} catch {
			// Without storage the UI has its own columns.
		}
	}
	try {
		localStorage.navOpen ??= "false"; // the columns need the place of its menu
	} catch {}
})`

// column is a column of the web UI's list of workflows: a search attribute or one of
// the UI's own labels.
type column struct {
	Label string `json:"label"`
	Width int    `json:"width,omitempty"` // in pixels; 0: as its content needs
}

// savedView is a query in the web UI's menu of saved views.
type savedView struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Query string `json:"query"`
	Type  string `json:"type"`
}

// listColumns are the columns with which the list opens. The names of stages are cut,
// so that the numbers are in sight at a width of 1280.
var listColumns = []column{
	{"Status", 0}, {"Workflow ID", 230}, {"Experiment", 0}, {"Paradigm", 0}, {"Method", 0},
	{"PreferenceBias", 0}, {"WeightedF1", 0}, {"MacroF1", 0}, {"RougeL", 0}, {"Verdict", 0}, {"Start", 0},
}

// ownColumns are those of listColumns that are no search attributes.
var ownColumns = []string{"Status", "Workflow ID", "Start"}

// listViews are the saved views. The UI sorts them by their names. A $ stands before a
// search attribute.
var listViews = []struct {
	name, query string
	needs       []string // search attributes
}{
	{"Runs", "WorkflowType = 'Run'", nil},
	{"Vanilla beside decoupled", "$Stage STARTS_WITH 'bias/' AND $Paradigm IS NOT NULL", []string{"Stage", "Paradigm"}},
	{"Sweeps", "WorkflowType = 'Sweep' AND ExecutionStatus != 'ContinuedAsNew'", nil},
	{"Nights", "WorkflowType = 'Nightly'", nil},
	{"Regressions", "$Verdict = 'regression'", []string{"Verdict"}},
}

// withViews are the web UI's files, whose page fills a browser that comes for the
// first time: the list of a namespace has columns of what was measured, as far as it
// has these search attributes (name → type), and saved views. The names begin with a
// prefix.
func withViews(files fs.FS, namespace string, attributes map[string]string, prefix string) (fs.FS, error) {
	columns := []column{}
	for _, c := range listColumns {
		if !slices.Contains(ownColumns, c.Label) {
			if c.Label = prefix + c.Label; attributes[c.Label] == "" {
				continue
			}
		}
		columns = append(columns, c)
	}
	views := []savedView{}
	for _, view := range listViews {
		if !slices.ContainsFunc(view.needs, func(name string) bool { return attributes[prefix+name] == "" }) {
			views = append(views, savedView{ID: "esclab " + view.name, Name: view.name, Query: strings.ReplaceAll(view.query, "$", prefix), Type: "user"})
		}
	}
	defaults, err := json.Marshal([][3]any{
		{"namespace-workflow-table-columns", namespace, columns},
		{"saved-workflow-queries", namespace, views},
		// The one that the UI offers beside its menu.
		{"last-viewed-saved-query-ids", "workflow", map[string]string{namespace: views[0].ID}},
	})
	if err != nil {
		return nil, err
	}
	page, err := fs.ReadFile(files, "index.html")
	if err != nil {
		return nil, err
	}
	// The page runs what its policy names by a digest.
	script := fmt.Sprintf("%s(%s)", firstVisit, defaults)
	digest := sha256.Sum256([]byte(script))
	for _, change := range [][2]string{
		{"script-src 'strict-dynamic'", "script-src 'strict-dynamic' 'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'"},
		{"</head>", "<script>" + script + "</script></head>"},
	} {
		if bytes.Count(page, []byte(change[0])) != 1 {
			return nil, fmt.Errorf("its page does not have %q once", change[0])
		}
		page = bytes.Replace(page, []byte(change[0]), []byte(change[1]), 1)
	}
	return withPage{files, page}, nil
}

// withPage are files with another page.
type withPage struct {
	fs.FS
	page []byte
}

// ReadFile is what the UI's server reads the page with.
func (w withPage) ReadFile(name string) ([]byte, error) {
	if name == "index.html" {
		return w.page, nil
	}
	return fs.ReadFile(w.FS, name)
}
