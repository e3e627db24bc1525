package up

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	maxLog  = 16 << 20 // bytes; one older part of this size is kept
	tailLog = 16 << 10 // bytes that tail reads at most
)

// logFile is the file to which a child writes its stderr. A pipe to this process
// would break at our end, and the child's next log line would kill it.
type logFile struct {
	file  *os.File
	begin int64 // offset of this child's part
}

func openLog(path string) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open log: %w", err)
	}
	return &logFile{file: f, begin: size}, nil
}

func (l *logFile) close() { l.file.Close() }

// bound moves the content to a second file once the log is too large. The child
// keeps appending to the same file, so lines that it writes between the copy and
// the truncation are lost.
func (l *logFile) bound() error {
	info, err := l.file.Stat()
	if err != nil || info.Size() <= maxLog {
		return err
	}
	old, err := os.OpenFile(l.file.Name()+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer old.Close()
	if _, err := io.Copy(old, io.NewSectionReader(l.file, max(0, info.Size()-maxLog), maxLog)); err != nil {
		return err
	}
	l.begin = 0
	return l.file.Truncate(0)
}

// tail returns the last lines that this child wrote.
func (l *logFile) tail(lines int) []string {
	info, err := l.file.Stat()
	if err != nil {
		return nil
	}
	from := max(l.begin, info.Size()-tailLog)
	b, err := io.ReadAll(io.NewSectionReader(l.file, from, info.Size()-from))
	if err != nil {
		return nil
	}
	all := bytes.Split(bytes.TrimRight(b, "\n"), []byte("\n"))
	var out []string
	for _, line := range all[max(0, len(all)-lines):] {
		if s := strings.TrimSpace(strings.ToValidUTF8(string(line), "?")); s != "" {
			out = append(out, s)
		}
	}
	return out
}
