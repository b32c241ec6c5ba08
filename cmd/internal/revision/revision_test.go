package revision

import (
	"runtime/debug"
	"testing"
)

func TestOf(t *testing.T) {
	commit := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"}
	for want, settings := range map[string][]debug.BuildSetting{
		"":                     {{Key: "vcs.modified", Value: "true"}},
		"0123456789ab":         {commit, {Key: "vcs.modified", Value: "false"}},
		"0123456789ab+changed": {{Key: "vcs.modified", Value: "true"}, commit},
	} {
		if got := of(settings); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
