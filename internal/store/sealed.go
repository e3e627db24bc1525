package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/desired"
)

// sealed is a log with a checksum in each entry and value. Neither raft nor bbolt has
// one, so a flipped bit would stay unnoticed until controllers differ. A seal is one
// byte for its kind, and a CRC-32C.
type sealed struct{ under logStore }

const (
	sealCRC32C = 1
	sealSize   = 5
)

var errSeal = errors.New("checksum is wrong")

func seal(parts ...[]byte) []byte {
	table := crc32.MakeTable(crc32.Castagnoli)
	var sum uint32
	for _, p := range parts {
		sum = crc32.Update(sum, table, p)
	}
	return binary.BigEndian.AppendUint32([]byte{sealCRC32C}, sum)
}

func sealEntry(l *raft.Log) []byte {
	head := binary.BigEndian.AppendUint64(nil, l.Index)
	head = binary.BigEndian.AppendUint64(head, l.Term)
	return seal(append(head, byte(l.Type)), l.Data)
}

func checkSeal(got, want []byte) error {
	switch {
	case len(got) == sealSize && got[0] > sealCRC32C:
		return fmt.Errorf("checksum of kind %d: %w", got[0], desired.ErrTooNew)
	case string(got) != string(want):
		return errSeal
	}
	return nil
}

func (s sealed) FirstIndex() (uint64, error)       { return s.under.FirstIndex() }
func (s sealed) LastIndex() (uint64, error)        { return s.under.LastIndex() }
func (s sealed) DeleteRange(from, to uint64) error { return s.under.DeleteRange(from, to) }

func (s sealed) GetLog(index uint64, l *raft.Log) error {
	if err := s.under.GetLog(index, l); err != nil {
		return err
	}
	if l.Index != index {
		return fmt.Errorf("has index %d", l.Index)
	}
	return checkSeal(l.Extensions, sealEntry(l))
}

func (s sealed) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs seals copies, because raft shares the entries with other goroutines.
func (s sealed) StoreLogs(logs []*raft.Log) error {
	copies := make([]*raft.Log, len(logs))
	for i, l := range logs {
		c := *l
		c.Extensions = sealEntry(l)
		copies[i] = &c
	}
	return s.under.StoreLogs(copies)
}

func (s sealed) Set(key, value []byte) error {
	return s.under.Set(key, append(seal(key, value), value...))
}

// Get returns the error of an unknown key unchanged, because raft compares its text.
func (s sealed) Get(key []byte) ([]byte, error) {
	data, err := s.under.Get(key)
	if err != nil {
		return nil, err
	}
	if len(data) < sealSize {
		return nil, fmt.Errorf("%s: %w", key, errSeal)
	}
	value := data[sealSize:]
	if err := checkSeal(data[:sealSize], seal(key, value)); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return value, nil
}

func (s sealed) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

func (s sealed) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("%s has %d bytes", key, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}
