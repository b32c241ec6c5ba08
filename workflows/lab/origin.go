package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
)

// CheckOrigin compares an artifact with the stage that it is found for, whose
// content is Stage.Content and whose inputs' fingerprints are inputs, by their
// names. A fingerprint says where an artifact lies; what lies there may have
// been put by anybody who can write to the store. What differs is an
// artifacts.DamagedError, so that the stage is made anew. An input that is not
// whole in the store is not compared.
func CheckOrigin(ctx context.Context, store *artifacts.Store, m artifacts.Manifest, content string, inputs map[string]string) error {
	differs := func(reason string, args ...any) error {
		return &artifacts.DamagedError{Fingerprint: m.Fingerprint, Key: artifacts.ManifestKey(m.Fingerprint), Reason: fmt.Sprintf(reason, args...)}
	}
	if has, err := (experiments.Stage{Kind: experiments.Kind(m.Kind), Params: m.Params}).Content(); err != nil || has != content {
		return differs("it was made with other parameters than those of the stage")
	}
	for _, name := range slices.Sorted(maps.Keys(m.Inputs)) {
		fingerprint, ok := inputs[name]
		if !ok {
			return differs("it was made of %s, which is no input of the stage", name)
		}
		of, err := store.Manifest(ctx, fingerprint)
		switch {
		case errors.Is(err, artifacts.ErrNotFound), errors.Is(err, artifacts.ErrDamaged):
		case err != nil:
			return err
		case of.Digest != m.Inputs[name]:
			return differs("it was made of another %s (%.12s) than the one in the store (%.12s)", name, m.Inputs[name], of.Digest)
		}
	}
	return nil
}

// Planned is what of a stage's fingerprint its manifest does not hold. It
// stands in the provenance.
type Planned struct {
	Version int               `json:"version"`
	Inputs  map[string]string `json:"inputs"` // fingerprints, by the inputs' names
	Fresh   string            `json:"fresh,omitempty"`
}

// CheckPlanned computes an artifact's fingerprint from its manifest and its
// provenance, for readers who have no plan. It says nothing about an artifact
// whose provenance is older than this check.
func CheckPlanned(ctx context.Context, store *artifacts.Store, m artifacts.Manifest) error {
	raw, err := store.Provenance(ctx, m.Fingerprint)
	if errors.Is(err, artifacts.ErrNotFound) || errors.Is(err, artifacts.ErrCorrupt) {
		return nil
	}
	if err != nil {
		return err
	}
	var of struct {
		Planned *Planned `json:"planned"`
	}
	if err := json.Unmarshal(raw, &of); err != nil || of.Planned == nil {
		return nil
	}
	s := experiments.Stage{Kind: experiments.Kind(m.Kind), Params: m.Params, Version: of.Planned.Version, Fresh: of.Planned.Fresh}
	if f, err := s.FingerprintOf(of.Planned.Inputs); err != nil || f != m.Fingerprint {
		return &artifacts.DamagedError{Fingerprint: m.Fingerprint, Key: artifacts.ManifestKey(m.Fingerprint),
			Reason: fmt.Sprintf("its kind, parameters and inputs have the fingerprint %.12s", f)}
	}
	content, err := s.Content()
	if err != nil {
		return err
	}
	return CheckOrigin(ctx, store, m, content, of.Planned.Inputs)
}
