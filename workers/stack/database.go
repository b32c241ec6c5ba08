package stack

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	_ "modernc.org/sqlite" // the driver that Temporal's plugin uses

	"github.com/esclab/esclab/workers/stack/connect"
	"github.com/esclab/esclab/workers/stack/internal/datadir"
)

// quickCheck has SQLite look over the database of a data directory, where there
// is one: every page, but not that indices agree with their tables. It may run
// beside a stack.
func quickCheck(ctx context.Context, dataDir string) error {
	path := filepath.Join(dataDir, datadir.DatabaseFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	db, err := sql.Open("sqlite", "file:"+inURI.Replace(path)+"?mode=rw&_pragma=busy_timeout(5000)")
	if err != nil {
		return damaged(path, err)
	}
	defer db.Close()
	found := ""
	err = db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("temporal: check %s: %w", path, ctx.Err())
	case err == nil && found != "ok":
		err = errors.New(found)
	}
	if err != nil {
		return damaged(path, err)
	}
	return nil
}

// syncEvery bounds what a power cut takes back of Temporal's database.
const syncEvery = time.Second

// keepSynced syncs the write-ahead log of a database until the context ends, once in
// a while for all the transactions since: SQLite itself would do so at every commit,
// some 20 of which make up a stage. The log's frames are in order and have checksums,
// so what a power cut leaves is the database of a moment before.
func keepSynced(ctx context.Context, path string, log zerolog.Logger) {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	var last time.Time
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		began := time.Now()
		if _, err := syncLog(path, last); err != nil {
			log.Error().Err(err).Msg("what Temporal wrote last may not survive a power cut")
			continue
		}
		last = began
	}
}

// syncLog syncs a database's write-ahead log, where there is one, and says whether it
// had to: not if nothing was written since the last call began. The clock of files
// is coarser than that of calls.
func syncLog(path string, last time.Time) (bool, error) {
	wal, err := os.OpenFile(path+"-wal", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("temporal: sync: %w", err)
	}
	defer wal.Close()
	info, err := wal.Stat()
	if err != nil || info.ModTime().Before(last.Add(-syncEvery)) {
		return false, err
	}
	if err := wal.Sync(); err != nil {
		return true, fmt.Errorf("temporal: sync: %w", err)
	}
	return true, nil
}

// damaged names a database that is of no use, and the remedy.
func damaged(path string, err error) error {
	return &connect.Problem{Err: err, Detail: fmt.Sprintf("temporal: the database %s is damaged (%v)", path, err),
		Remedy: fmt.Sprintf("move it away with its -wal and -shm (mv %[1]s %[1]s.damaged): the histories of runs are lost, all finished work is in the store, and the same runs reuse it", path)}
}

// CheckDatabase is the check of Temporal's database for esclab doctor. The second
// result is false where there is none.
func CheckDatabase(ctx context.Context, dataDir string) (connect.Check, bool) {
	path := filepath.Join(dataDir, datadir.DatabaseFile)
	info, err := os.Stat(path)
	if err != nil {
		return connect.Check{}, false
	}
	began := time.Now()
	c := connect.Check{Name: "database", Status: connect.OK}
	var p *connect.Problem
	switch err := quickCheck(ctx, dataDir); {
	case errors.As(err, &p):
		c.Status, c.Detail, c.Remedy = connect.Fail, p.Detail, p.Remedy
	case err != nil:
		c.Status, c.Detail = connect.Fail, err.Error()
	default:
		c.Detail = fmt.Sprintf("%s, %d MB, whole (SQLite's quick_check, %d ms)", path, info.Size()/1e6, time.Since(began).Milliseconds())
	}
	return c, true
}
