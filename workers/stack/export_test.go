package stack

import "github.com/esclab/esclab/workers/stack/connect"

// S3 returns how to reach the S3 store.
func (s *Stack) S3() connect.S3 { return s.s3 }

var SyncLog = syncLog
