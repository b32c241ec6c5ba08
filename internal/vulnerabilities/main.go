// Command vulnerabilities reads what govulncheck has found, as JSON on standard
// input, and fails where the programs hold code with a known vulnerability that the
// given file does not list with a reason. make lint runs it.
//
//	govulncheck -mode binary -format json PROGRAM | go run ./internal/vulnerabilities internal/vulnerabilities/accepted.txt
//
// A program with its symbols (not linked with -s) says which functions the linker has
// kept: those that something may call, by name or through an interface.
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
	fmt.Fprintf(out, "%d known vulnerabilities concern modules that the programs are built of, and %d of them functions that they hold\n",
		len(s.modules), len(s.held))
	var faults []string
	for _, id := range slices.Sorted(maps.Keys(s.held)) {
		if accepted[id] == "" {
			faults = append(faults, s.held[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(accepted)) {
		if s.held[id] == "" {
			faults = append(faults, fmt.Sprintf("%s is accepted in %s and held no longer: remove its line", id, args[0]))
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
	modules map[string]bool   // identifiers of what concerns a module of the build
	held    map[string]string // what is said of those whose functions the programs hold, by identifier
}

// readScan reads the messages of govulncheck's JSON (package
// golang.org/x/vuln/internal/govulncheck). A finding whose trace begins with a
// function is of one that the program holds.
func readScan(in io.Reader) (scan, error) {
	s := scan{modules: map[string]bool{}, held: map[string]string{}}
	level := ""
	d := json.NewDecoder(in)
	for {
		var message struct {
			Config *struct {
				Level string `json:"scan_level"`
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
			level = c.Level
		}
		f := message.Finding
		if f == nil || len(f.Trace) == 0 {
			continue
		}
		s.modules[f.OSV] = true
		if at := f.Trace[0]; at.Function != "" && s.held[f.OSV] == "" {
			fixed := "is fixed in no version"
			if f.Fixed != "" {
				fixed = "is fixed in " + f.Fixed
			}
			s.held[f.OSV] = fmt.Sprintf("%s in %s %s is held (%s.%s) and %s", f.OSV, at.Module, at.Version, at.Package, at.Function, fixed)
		}
	}
	if level != "symbol" {
		return s, fmt.Errorf("govulncheck has looked at %q, want symbol: what the programs hold is not known", level)
	}
	return s, nil
}
