package mcp

// AppendRequest appends a request. id and params are raw. Without params that member is left out.
func AppendRequest(dst, id []byte, method string, params []byte) []byte {
	dst = append(append(dst, `{"jsonrpc":"2.0","id":`...), id...)
	return appendCall(append(dst, ','), method, params)
}

// AppendNotification appends a notification.
func AppendNotification(dst []byte, method string, params []byte) []byte {
	return appendCall(append(dst, `{"jsonrpc":"2.0",`...), method, params)
}

func appendCall(dst []byte, method string, params []byte) []byte {
	dst = AppendString(append(dst, `"method":`...), method)
	if len(params) > 0 {
		dst = append(append(dst, `,"params":`...), params...)
	}
	return append(dst, '}')
}

// AppendResult appends the response to the request with that raw id.
func AppendResult(dst, id, result []byte) []byte {
	dst = append(append(dst, `{"jsonrpc":"2.0","id":`...), id...)
	return append(append(append(dst, `,"result":`...), result...), '}')
}

// AppendRawError appends an error response around a raw error object. Without an id, because the
// request's could not be read, that member is left out.
func AppendRawError(dst, id, raw []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0",`...)
	if len(id) > 0 {
		dst = append(append(append(dst, `"id":`...), id...), ',')
	}
	return append(append(append(dst, `"error":`...), raw...), '}')
}

// AppendError appends an error response.
func AppendError(dst, id []byte, e *Error) []byte {
	return AppendRawError(dst, id, e.Append(nil))
}
