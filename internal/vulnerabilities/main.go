// Command vulnerabilities reads what govulncheck has found, as JSON on standard
// input, and fails where the programs call code with a known vulnerability that the
// given file does not list with a reason. make lint runs it.
//
//	govulncheck -format json ./cmd/... | go run ./internal/vulnerabilities internal/vulnerabilities/accepted.txt
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "vulnerabilities:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("one argument is needed, the file with what is accepted")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	accepted, err := readAccepted(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	s, err := readScan(in)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d known vulnerabilities concern what the programs are built of, and they call %d of them; the database is of %.10s\n",
		len(s.linked), len(s.called), s.database)
	var faults []string
	for _, id := range slices.Sorted(maps.Keys(s.called)) {
		if accepted[id] == "" {
			faults = append(faults, s.called[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(accepted)) {
		if s.called[id] == "" {
			faults = append(faults, fmt.Sprintf("%s is accepted in %s and called no longer: remove its line", id, args[0]))
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("%s; raise the module, or list the identifier in %s with the reason why it does no harm", strings.Join(faults, "; "), args[0])
	}
	return nil
}

// readAccepted reads lines of an identifier and the reason why it does no harm.
func readAccepted(text string) (map[string]string, error) {
	accepted := map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, reason, _ := strings.Cut(line, " ")
		if reason = strings.TrimSpace(reason); reason == "" {
			return nil, fmt.Errorf("line %d: %s has no reason", i+1, id)
		}
		accepted[id] = reason
	}
	return accepted, nil
}

// scan is what govulncheck has found.
type scan struct {
	database string            // when it was changed last
	linked   map[string]bool   // identifiers of what concerns a module of the build
	called   map[string]string // what is said of those that are called, by identifier
}

// readScan reads the messages of govulncheck's JSON (package
// golang.org/x/vuln/internal/govulncheck). A finding whose trace begins with a
// function is called.
func readScan(in io.Reader) (scan, error) {
	s := scan{linked: map[string]bool{}, called: map[string]string{}}
	level := ""
	d := json.NewDecoder(in)
	for {
		var message struct {
			Config *struct {
				Level    string `json:"scan_level"`
				Database string `json:"db_last_modified"`
			} `json:"config"`
			Finding *struct {
				OSV   string `json:"osv"`
				Fixed string `json:"fixed_version"`
				Trace []struct {
					Module   string `json:"module"`
					Version  string `json:"version"`
					Package  string `json:"package"`
					Function string `json:"function"`
				} `json:"trace"`
			} `json:"finding"`
		}
		err := d.Decode(&message)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s, fmt.Errorf("what govulncheck says: %w", err)
		}
		if c := message.Config; c != nil {
			level, s.database = c.Level, c.Database
		}
		f := message.Finding
		if f == nil || len(f.Trace) == 0 {
			continue
		}
		s.linked[f.OSV] = true
		if at := f.Trace[0]; at.Function != "" && s.called[f.OSV] == "" {
			fixed := "is fixed in no version"
			if f.Fixed != "" {
				fixed = "is fixed in " + f.Fixed
			}
			caller := f.Trace[len(f.Trace)-1]
			s.called[f.OSV] = fmt.Sprintf("%s in %s %s is called (%s.%s, from %s) and %s", f.OSV, at.Module, at.Version, at.Package, at.Function, caller.Package, fixed)
		}
	}
	if level != "symbol" {
		return s, fmt.Errorf("govulncheck has looked at %q, want symbol: what is called is not known", level)
	}
	return s, nil
}
