package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
)

// The layout of bbolt's file (version 2 of its format, which has not changed since
// 2013). All numbers are in the machine's byte order.
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	pageHeader     = 16 // id 8, flags 2, count 2, overflow 4
	elementSize    = 16 // leaf: flags 4, pos 4, ksize 4, vsize 4; branch: pos 4, ksize 4, page 8
	metaSize       = 64 // checksum is the last 8
	noFreelist     = ^uint64(0)
	flagBranch     = 0x01
	flagLeaf       = 0x02
	flagFreelist   = 0x10
	flagBucket     = 0x01
	bucketHeader   = 16 // root page 8, sequence 8
	maxDepth       = 64
	manyFreePages  = 0xFFFF
	smallestBolt   = 2 * 512
	largestPageLen = 64 << 10
)

// pages is a log file being checked.
type pages struct {
	data   []byte
	size   int    // of a page
	end    uint64 // number of pages in use, the high water mark
	used   map[uint64]bool
	number binary.ByteOrder
}

// checkPages checks all pages that the newest complete transaction uses, with
// ordinary reads. Bbolt's own check reads the mapped file in another goroutine,
// where a page past the file's end kills the process. A page that was being written
// when the machine died belongs to no complete transaction, and does not matter.
func checkPages(path string) error {
	data, err := os.ReadFile(path) // the log is a few MiB
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return nil // created and still empty: bbolt initializes it
	}
	p := &pages{data: data, used: map[uint64]bool{0: true, 1: true}, number: binary.NativeEndian}
	root, freelist, err := p.meta()
	if err != nil {
		return err
	}
	if uint64(len(data)) < p.end*uint64(p.size) {
		return fmt.Errorf("it has %d bytes, %d are missing at its end", len(data), p.end*uint64(p.size)-uint64(len(data)))
	}
	if err := p.tree(root, nil, nil, 0); err != nil {
		return err
	}
	return p.free(freelist)
}

// meta reads the two meta pages and uses the newer one that is intact.
func (p *pages) meta() (root, freelist uint64, err error) {
	if len(p.data) < smallestBolt {
		return 0, 0, fmt.Errorf("it has only %d bytes", len(p.data))
	}
	var newest uint64
	found := false
	read := func(at int) {
		if at < 0 || at+pageHeader+metaSize > len(p.data) {
			return
		}
		m := p.data[at+pageHeader:][:metaSize]
		sum := fnv.New64a()
		sum.Write(m[:metaSize-8])
		size := int(p.number.Uint32(m[8:]))
		txid := p.number.Uint64(m[48:])
		if p.number.Uint32(m) != boltMagic || p.number.Uint32(m[4:]) != boltVersion || sum.Sum64() != p.number.Uint64(m[56:]) ||
			size < 512 || size > largestPageLen || found && txid < newest {
			return
		}
		found, newest, p.size = true, txid, size
		root, freelist, p.end = p.number.Uint64(m[16:]), p.number.Uint64(m[32:]), p.number.Uint64(m[40:])
	}
	read(0)
	// The first page, if it is intact, says where the second one is.
	if found {
		read(p.size)
	} else {
		for size := 1024; size <= largestPageLen && !found; size *= 2 {
			read(size)
		}
	}
	if !found {
		return 0, 0, errors.New("both of its meta pages are damaged")
	}
	if p.end > uint64(len(p.data)) { // each page has at least 512 bytes; the sum must not overflow
		return 0, 0, fmt.Errorf("it has %d bytes, for %d pages", len(p.data), p.end)
	}
	return root, freelist, nil
}

// page returns a page with its overflow. It returns each page once.
func (p *pages) page(id uint64) ([]byte, error) {
	if id < 2 || id >= p.end {
		return nil, fmt.Errorf("page %d does not exist", id)
	}
	data := p.data[id*uint64(p.size):]
	if got := p.number.Uint64(data); got != id {
		return nil, fmt.Errorf("page %d says it is page %d", id, got)
	}
	n := uint64(p.number.Uint32(data[12:])) + 1
	if n > p.end-id {
		return nil, fmt.Errorf("page %d goes on past the end", id)
	}
	for i := id; i < id+n; i++ {
		if p.used[i] {
			return nil, fmt.Errorf("page %d is used twice", i)
		}
		p.used[i] = true
	}
	return data[:n*uint64(p.size)], nil
}

// tree checks a page and the pages below it. Their keys must be in order, at least
// lowest, and below ceiling unless that is nil.
func (p *pages) tree(id uint64, lowest, ceiling []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d is too deep", id)
	}
	page, err := p.page(id)
	if err != nil {
		return err
	}
	if err := p.node(page, lowest, ceiling, depth); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (p *pages) node(page, lowest, ceiling []byte, depth int) error {
	flags, count := p.number.Uint16(page[8:]), int(p.number.Uint16(page[10:]))
	if flags != flagBranch && flags != flagLeaf {
		return fmt.Errorf("is not a page of a tree (%#x)", flags)
	}
	if pageHeader+count*elementSize > len(page) || flags == flagBranch && count == 0 {
		return fmt.Errorf("has %d elements", count)
	}
	keys := make([][]byte, count)
	for i := range count {
		at := pageHeader + i*elementSize
		e := page[at:][:elementSize]
		pos, ksize, vsize := p.number.Uint32(e), p.number.Uint32(e[4:]), uint32(0)
		if flags == flagLeaf {
			pos, ksize, vsize = p.number.Uint32(e[4:]), p.number.Uint32(e[8:]), p.number.Uint32(e[12:])
		}
		if uint64(at)+uint64(pos)+uint64(ksize)+uint64(vsize) > uint64(len(page)) {
			return fmt.Errorf("element %d goes past its end", i)
		}
		keys[i] = page[at+int(pos):][:ksize]
		if i > 0 && bytes.Compare(keys[i-1], keys[i]) >= 0 || i == 0 && lowest != nil && bytes.Compare(keys[i], lowest) < 0 ||
			ceiling != nil && bytes.Compare(keys[i], ceiling) >= 0 {
			return fmt.Errorf("element %d is out of order", i)
		}
		if flags == flagLeaf && p.number.Uint32(e)&flagBucket != 0 {
			if err := p.bucket(page[at+int(pos)+int(ksize):][:vsize], depth); err != nil {
				return fmt.Errorf("bucket %q: %w", keys[i], err)
			}
		}
	}
	if flags == flagLeaf {
		return nil
	}
	for i := range count {
		above := ceiling
		if i+1 < count {
			above = keys[i+1]
		}
		child := p.number.Uint64(page[pageHeader+i*elementSize+8:])
		if err := p.tree(child, keys[i], above, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (p *pages) bucket(value []byte, depth int) error {
	if len(value) < bucketHeader {
		return errors.New("has no header")
	}
	if root := p.number.Uint64(value); root != 0 {
		return p.tree(root, nil, nil, depth+1)
	}
	if depth > maxDepth || len(value) < bucketHeader+pageHeader { // a small bucket is stored inline
		return errors.New("has no page")
	}
	return p.node(value[bucketHeader:], nil, nil, depth+1)
}

// free checks that each page is either in use or in the list of free pages.
func (p *pages) free(id uint64) error {
	if id == noFreelist {
		return nil
	}
	page, err := p.page(id)
	if err != nil {
		return fmt.Errorf("free list: %w", err)
	}
	if p.number.Uint16(page[8:]) != flagFreelist {
		return fmt.Errorf("page %d is not a free list", id)
	}
	list, count := page[pageHeader:], uint64(p.number.Uint16(page[10:]))
	if count == manyFreePages { // the number is in the first element then
		count, list = p.number.Uint64(list), list[8:]
	}
	if count > uint64(len(list)/8) {
		return fmt.Errorf("free list has %d pages", count)
	}
	for i := range count {
		free := p.number.Uint64(list[i*8:])
		if free < 2 || free >= p.end || p.used[free] {
			return fmt.Errorf("page %d is free and in use", free)
		}
		p.used[free] = true
	}
	if uint64(len(p.used)) != p.end {
		return fmt.Errorf("%d of %d pages are neither free nor in use", p.end-uint64(len(p.used)), p.end)
	}
	return nil
}
