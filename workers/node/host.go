package node

import (
	"context"
	"io/fs"
	"path/filepath"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge/prompts"
	"github.com/esclab/esclab/workers/settings"
)

// Host is this machine as plans see it: with the sample corpus, the digests of
// the checkpoints that were planned with before, the buckets that checkpoints
// may lie in, and the judge that reads prompts.
func Host(ctx context.Context, s *settings.Settings) experiments.Host {
	host := experiments.OS(democorpus.JSON())
	host.Digests = experiments.OpenDigestCache(filepath.Join(s.Embedded.DataDir, "digests.json"))
	host.Remote = func(uri string) (fs.FS, error) {
		bucket, err := OpenBucket(ctx, s, uri)
		if err != nil {
			return nil, err
		}
		return artifacts.Files(ctx, bucket), nil
	}
	host.CheckPrompts = func(protocol experiments.Protocol, texts map[string]string) error {
		_, err := prompts.New(prompts.Protocol(protocol), texts)
		return err
	}
	return host
}
