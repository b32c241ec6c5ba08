package experiments

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// maxName is the length of an experiment's name; see namePattern.
const maxName = 63

// CellExperiment is the name of a cell's experiment, and so of its run:
// "SWEEP.CELL".
func CellExperiment(sweep, cell string) string { return sweep + "." + cell }

// shortNames abbreviates paths to the last parts by which they differ:
// dpo.roles.*.beta and dpo.loss are "beta" and "loss".
func shortNames(paths []string) map[string]string {
	short := make(map[string]string, len(paths))
	for _, path := range paths {
		for parts := 1; ; parts++ {
			name := lastParts(path, parts)
			unique := !slices.ContainsFunc(paths, func(other string) bool {
				return other != path && lastParts(other, parts) == name
			})
			if unique || name == lastParts(path, parts+1) {
				short[path] = name
				break
			}
		}
	}
	return short
}

// lastParts gives the last n parts of a path, wildcards left out.
func lastParts(path string, n int) string {
	parts := slices.DeleteFunc(strings.Split(path, "."), func(p string) bool { return p == "*" })
	return strings.Join(parts[max(len(parts)-n, 0):], ".")
}

// cellName is what a cell is called within its sweep. Sweep, dot and cell
// together are an experiment's name.
func cellName(sweep string, set []string, short map[string]string) string {
	if len(set) == 0 {
		return "base"
	}
	parts := make([]string, len(set))
	for i, assignment := range set {
		path, value, _ := strings.Cut(assignment, "=")
		parts[i] = plain(short[path]) + "-" + plain(value)
	}
	name := strings.Join(parts, "_")
	if len(CellExperiment(sweep, name)) > maxName {
		return hashedName(sweep, name, set)
	}
	return name
}

// hashedName shortens a name and makes it unique by a hash of what it stands for.
func hashedName(sweep, name string, set []string) string {
	sum := sha256.Sum256([]byte(strings.Join(set, "\n")))
	room := max(maxName-len(CellExperiment(sweep, ""))-7, 0)
	return name[:min(len(name), room)] + "-" + hex.EncodeToString(sum[:3])
}

// plain turns text into what a name may hold.
func plain(s string) string {
	mapped := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r == '_':
			return '-'
		}
		return ' '
	}, s)
	return strings.Join(strings.Fields(mapped), "-")
}
