// Package revision says which revision of the sources a program was built of.
package revision

import "runtime/debug"

// digits is how much of a commit's hash names it.
const digits = 12

// Of is the git commit that the running program was built from, twelve digits,
// with "+changed" behind it where files differed from it; "" where the build
// noted none (go run, go test, an archive without git).
func Of() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return of(info.Settings)
}

func of(settings []debug.BuildSetting) string {
	revision, changed := "", false
	for _, s := range settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			changed = s.Value == "true"
		}
	}
	if revision == "" {
		return ""
	}
	revision = revision[:min(digits, len(revision))]
	if changed {
		revision += "+changed"
	}
	return revision
}
