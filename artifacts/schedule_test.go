package artifacts_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/artifacts"
)

func TestScheduleFiles(t *testing.T) {
	s := newWorld(t, openDirectory(t))
	ctx := t.Context()
	const id = "every night/../x"
	for _, name := range []string{"nights/20261125T220000Z.json", "nights/20261124T220000Z.json", "experiments/ab.yaml"} {
		ref, err := s.PutScheduleFile(ctx, id, name, []byte(name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(ref.Key, "schedules/every%20night%2F..%2Fx/") {
			t.Errorf("key %s", ref.Key)
		}
		if data, err := s.GetScheduleFile(ctx, id, name); err != nil || string(data) != name {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	files, err := s.ListScheduleFiles(ctx, id)
	want := []string{"experiments/ab.yaml", "nights/20261124T220000Z.json", "nights/20261125T220000Z.json"}
	if err != nil || !slices.Equal(files, want) {
		t.Errorf("files %q, %v; want %q", files, err, want)
	}
	if _, err := s.GetScheduleFile(ctx, id, "nights/none.json"); !errors.Is(err, artifacts.ErrNotFound) {
		t.Errorf("a file that is not there: %v", err)
	}
	for _, name := range []string{"../x", "", "a.sha256"} {
		if _, err := s.PutScheduleFile(ctx, id, name, nil); !errors.Is(err, artifacts.ErrInvalidKey) {
			t.Errorf("name %q: %v", name, err)
		}
	}
}
