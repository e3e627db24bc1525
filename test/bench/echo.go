package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// echoServer is a lean legacy-era MCP server over stdio. Its only tool, echo,
// returns its argument "text". It answers in order, and flushes only if no further
// request is waiting, like a busy event loop.
func echoServer(in io.Reader, out io.Writer) error {
	r := bufio.NewReaderSize(in, 256<<10)
	w := bufio.NewWriterSize(out, 256<<10)
	var long []byte
	for {
		line, err := r.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, line...)
			line, err = r.ReadSlice('\n')
		}
		if len(long) > 0 {
			long = append(long, line...)
			line, long = long, long[:0]
		}
		if err == io.EOF {
			return w.Flush()
		}
		if err != nil {
			return err
		}
		if err := answer(w, line); err != nil {
			return err
		}
		if r.Buffered() == 0 {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
}

func answer(w *bufio.Writer, line []byte) error {
	m, err := mcp.Scan(line)
	if err != nil {
		return fmt.Errorf("bad line: %w", err)
	}
	if m.Kind != mcp.KindRequest {
		return nil
	}
	b := w.AvailableBuffer()
	b = append(b, `{"jsonrpc":"2.0","id":`...)
	b = append(b, m.ID...)
	head := len(b)
	b = append(b, `,"result":`...)
	switch string(m.Method) {
	case "initialize":
		b = append(b, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}`...)
	case "tools/list":
		b = append(b, `{"tools":[{"name":"echo","description":"Sends text back.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]},"annotations":{"readOnlyHint":true}}]}`...)
	case "tools/call":
		params, err := mcp.Fields(m.Params, "arguments")
		if err != nil {
			return err
		}
		args, err := mcp.Fields(params[0], "text")
		if err != nil {
			return err
		}
		b = append(b, `{"content":[{"type":"text","text":`...)
		b = append(b, args[0]...)
		b = append(b, `}]}`...)
	case "ping":
		b = append(b, `{}`...)
	default: // such as server/discover
		b = append(b[:head], `,"error":{"code":-32601,"message":"Method not found"}`...)
	}
	_, err = w.Write(append(b, "}\n"...))
	return err
}

// slowServer is an echoServer that answers each call after a delay. Calls run
// concurrently.
func slowServer(in io.Reader, out io.Writer, delay time.Duration) error {
	var (
		mu  sync.Mutex // guards w and err
		w   = bufio.NewWriter(out)
		err error
		wg  sync.WaitGroup
	)
	reply := func(line []byte) {
		mu.Lock()
		defer mu.Unlock()
		if err = errors.Join(err, answer(w, line)); err == nil {
			err = w.Flush()
		}
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := bytes.Clone(lines.Bytes())
		if m, err := mcp.Scan(line); err != nil || string(m.Method) != mcp.MethodToolsCall {
			reply(line)
			continue
		}
		wg.Add(1)
		time.AfterFunc(delay, func() {
			defer wg.Done()
			reply(line)
		})
	}
	wg.Wait()
	return errors.Join(lines.Err(), err)
}
