package artifacts

import "context"

// A schedule's files are its experiments, as they were when the schedule was
// made, and the records of its nights:
//
//	schedules/<id>/experiments/<sha256>.yaml
//	schedules/<id>/nights/<night>.json, .md

// PutScheduleFile stores a small file of a schedule and replaces one of the
// same name. name is a clean relative path.
func (s *Store) PutScheduleFile(ctx context.Context, id, name string, data []byte) (Ref, error) {
	return s.putFileOf(ctx, ofSchedule, id, name, data)
}

// GetScheduleFile returns the verified content of a file of a schedule. The
// error wraps ErrNotFound if there is none and ErrCorrupt if it is not what was
// put.
func (s *Store) GetScheduleFile(ctx context.Context, id, name string) ([]byte, error) {
	return s.getFileOf(ctx, ofSchedule, id, name)
}

// ListScheduleFiles returns the names of the files of a schedule, sorted.
func (s *Store) ListScheduleFiles(ctx context.Context, id string) ([]string, error) {
	return s.listFilesOf(ctx, ofSchedule, id)
}
