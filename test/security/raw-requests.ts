/** Bytes that no honest client sends, or that two servers may read in two ways. */
export interface RawRequest {
  name: string
  /** What is written. `ID` becomes a marker of this case. The second part is written when the first one was answered. */
  bytes: string | readonly [string, string]
  /**
   * Requests that the app may see, in this order: `METHOD target body`. It sees these or the first of them, never another one. It need
   * not read a body, but if it does, then this one.
   */
  seen: readonly string[]
  /** It is well-formed: the app sees all of them. */
  whole?: true
  /** The request is incomplete, and the client says nothing more. */
  ends?: true
}

const crlf = '\r\n'
/** Never a request of its own, except where it is one for every reader. */
const hidden = `GET /smuggled/ID HTTP/1.1${crlf}host: app${crlf}${crlf}`
const head = (...lines: string[]) => [...lines, '', ''].join(crlf)
const get = (...headers: string[]) => head('GET /echo/ID HTTP/1.1', 'host: app', ...headers)
const page = (...headers: string[]) => head('GET /page/ID HTTP/1.1', 'host: app', ...headers)
const post = (body: string, ...headers: string[]) => head('POST /echo/ID HTTP/1.1', 'host: app', ...headers) + body
const long = (count: number) => 'x'.repeat(count)
const length = (body: string) => `content-length: ${body.length}`
/** `ID` becomes a marker of this many letters, so that lengths are right before that. */
export const markerLength = 2

const seenGet = ['GET /echo/ID'] as const
/** nginx asks for the page, which it may keep. */
const seenHead = seenGet
const seenPage = ['GET /page/ID'] as const
const seenPost = (body: string) => [`POST /echo/ID ${body}`]

type Table = Readonly<Record<string, Omit<RawRequest, 'name'>>>
const named = (table: Table, group: string): RawRequest[] =>
  Object.entries(table).map(([name, rest]) => ({ name: `${group}: ${name}`, ...rest }))

/** Each with a length that covers a whole hidden request, which begins after what would be the last chunk. */
function encodings(): Table {
  const body = `0${crlf}${crlf}${hidden}`
  const lines: Record<string, string | string[]> = {
    'after a length': 'Transfer-Encoding: chunked',
    'almost chunked': 'Transfer-Encoding: xchunked',
    'a space before the colon': 'Transfer-Encoding : chunked',
    'a tab before the colon': 'Transfer-Encoding\t: chunked',
    'a tab before the value': 'Transfer-Encoding:\tchunked',
    'a vertical tab before the value': 'Transfer-Encoding:\x0bchunked',
    'a form feed after the value': 'Transfer-Encoding: chunked\x0c',
    'a NUL after the value': 'Transfer-Encoding: chunked\0',
    'a NUL in the name': 'Transfer\0-Encoding: chunked',
    'in capitals': 'TRANSFER-ENCODING: CHUNKED',
    'an underscore': 'Transfer_Encoding: chunked',
    'a leading space': ' Transfer-Encoding: chunked',
    'behind a bare line feed': 'X: y\nTransfer-Encoding: chunked',
    'behind a bare carriage return': 'X: y\rTransfer-Encoding: chunked',
    'a line break before the colon': 'Transfer-Encoding\r\n : chunked',
    'a folded value': 'Transfer-Encoding:\r\n chunked',
    'a value folded in the middle': 'Transfer-Encoding: chu\r\n nked',
    'in quotes': 'Transfer-Encoding: "chunked"',
    'with a parameter': 'Transfer-Encoding: chunked;q=1',
    'with a comma': 'Transfer-Encoding: chunked,',
    'with a leading comma': 'Transfer-Encoding: ,chunked',
    'identity after it': 'Transfer-Encoding: chunked, identity',
    'identity before it': 'Transfer-Encoding: identity, chunked',
    'gzip before it': 'Transfer-Encoding: gzip, chunked',
    'named twice': ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'],
    'and a second one of no meaning': ['Transfer-Encoding: chunked', 'Transfer-Encoding: cow'],
    'behind one of no meaning': ['Transfer-Encoding: cow', 'Transfer-Encoding: chunked'],
    'a letter that becomes k in lower case': 'Transfer-Encoding: chun\xe2\x84\xaaed',
    'a hard space after the name': 'Transfer-Encoding\xa0: chunked',
    'an empty value': 'Transfer-Encoding:',
    'identity alone': 'Transfer-Encoding: identity',
    'as the encoding of the content': 'Content-Encoding: chunked',
    'as what the client takes': 'TE: chunked, trailers',
    'taken away by Connection': ['Transfer-Encoding: chunked', 'Connection: Transfer-Encoding'],
  }
  const made = Object.entries(lines).map(([name, one]): [string, Table[string]] => [
    name,
    { bytes: post(body, length(body), ...[one].flat()), seen: seenPost(body) },
  ])
  const before = post(body, 'Transfer-Encoding: chunked', length(body))
  const short = `5c${crlf}${hidden}${crlf}0${crlf}${crlf}`
  return {
    ...Object.fromEntries(made),
    'before a length': { bytes: before, seen: seenPost(body) },
    'and a length that ends within the first chunk': {
      bytes: post(short, 'Content-Length: 4', 'Transfer-Encoding: chunked'),
      seen: [],
    },
    'and a length of zero': { bytes: post(body, 'Content-Length: 0', 'Transfer-Encoding: chunked'), seen: [] },
    'in HTTP/1.0': {
      bytes: head('POST /echo/ID HTTP/1.0', 'host: app', 'Transfer-Encoding: chunked', length(body)) + body,
      seen: seenPost(body),
    },
    'in HTTP/1.0 without a length': {
      bytes: head('POST /echo/ID HTTP/1.0', 'host: app', 'Transfer-Encoding: chunked') + body,
      seen: [],
    },
  }
}

const lengths: Table = Object.fromEntries(
  Object.entries({
    'twice the same': ['Content-Length: 5', 'Content-Length: 5'],
    'two, the first is right': ['Content-Length: 5', 'Content-Length: 0'],
    'two, the second is right': ['Content-Length: 0', 'Content-Length: 5'],
    'two in one': ['Content-Length: 5, 5'],
    'two others in one': ['Content-Length: 5, 0'],
    'two in one without a comma': ['Content-Length: 5 0'],
    'with a plus': ['Content-Length: +5'],
    negative: ['Content-Length: -5'],
    hexadecimal: ['Content-Length: 0x5'],
    'with a fraction': ['Content-Length: 5.0'],
    'with an exponent': ['Content-Length: 5e0'],
    'in quotes': ['Content-Length: "5"'],
    empty: ['Content-Length:'],
    'beyond 64 bits': ['Content-Length: 18446744073709551621'],
    'with a space before the colon': ['Content-Length : 5'],
    'with a vertical tab': ['Content-Length:\x0b5'],
    'with a NUL': ['Content-Length: 5\0'],
    'with a digit of another script': ['Content-Length: \xd9\xa5'],
    folded: ['Content-Length:\r\n 5'],
    'behind a bare carriage return': ['X: y\rContent-Length: 5'],
  }).map(([name, lines]) => [name, { bytes: post('GPOST', ...lines), seen: seenPost('GPOST') }]),
)

/** nginx reads shorter ones before it asks the app. */
const longBody = hidden + long(20_000)

const moreLengths: Table = {
  'beyond 32 bits': { bytes: post('GPOST', 'Content-Length: 4294967301'), seen: seenPost('GPOST'), ends: true },
  'with an underscore': { bytes: post('', 'Content_Length: 5'), seen: ['POST /echo/ID'] }, // it is no length
  'with zeros in front': { bytes: post('hello', 'Content-Length: 0005'), seen: seenPost('hello') },
  'none at all': { bytes: post(hidden), seen: ['POST /echo/ID', 'GET /smuggled/ID'] }, // two requests, for every reader
  'of a GET, which covers a hidden request': { bytes: get(length(hidden)) + hidden, seen: seenGet },
  'of a GET for a kept page, which covers a hidden request': { bytes: page(length(hidden)) + hidden, seen: seenPage },
  'of a HEAD, which covers a hidden request': {
    bytes: head('HEAD /echo/ID HTTP/1.1', 'host: app', length(hidden)) + hidden,
    seen: seenHead,
  },
  'of a DELETE, which covers a hidden request': {
    bytes: head('DELETE /echo/ID HTTP/1.1', 'host: app', length(hidden)) + hidden,
    seen: [`DELETE /echo/ID ${hidden}`],
  },
  'of a body that is refused unread': {
    bytes: head('POST /refused/ID HTTP/1.1', 'host: app', length(hidden)) + hidden,
    seen: ['POST /refused/ID'],
  },
  'of a body that is refused unread and comes later': {
    bytes: [head('POST /refused/ID HTTP/1.1', 'host: app', length(longBody)), longBody],
    seen: ['POST /refused/ID'],
  },
  'of a body for a page that exists for GET alone': {
    bytes: head('POST /page/ID HTTP/1.1', 'host: app', length(hidden)) + hidden,
    seen: [`POST /page/ID ${hidden}`],
  },
  'of a body that is shorter': { bytes: post('he', 'Content-Length: 5'), seen: seenPost('he'), ends: true },
  'of a body that is longer': {
    bytes: post(`hello${hidden}`, 'Content-Length: 5'),
    seen: [...seenPost('hello'), 'GET /smuggled/ID'],
  },
  'taken away by Connection': {
    bytes: post(hidden, length(hidden), 'Connection: keep-alive, Content-Length'),
    seen: seenPost(hidden),
  },
  'before chunks that have a length in their trailer': {
    bytes: post(`5${crlf}hello${crlf}0${crlf}Content-Length: 5${crlf}${crlf}`, 'Transfer-Encoding: chunked'),
    seen: seenPost('hello'),
  },
}

const chunked = (body: string) => post(body, 'Transfer-Encoding: chunked')
const last = `0${crlf}${crlf}`
const chunks: Table = {
  'as they should be': { bytes: chunked(`5${crlf}hello${crlf}${last}`), seen: seenPost('hello'), whole: true },
  'sizes in capitals with zeros': {
    bytes: chunked(`00A${crlf}hellohello${crlf}${last}`),
    seen: seenPost('hellohello'),
    whole: true,
  },
  'an extension': { bytes: chunked(`5;a=b${crlf}hello${crlf}${last}`), seen: seenPost('hello') },
  'an extension in quotes': { bytes: chunked(`5;a="b;c"${crlf}hello${crlf}${last}`), seen: seenPost('hello') },
  'an extension that ends with a bare line feed': {
    bytes: chunked(`5;a\nhello${crlf}${last}`),
    seen: seenPost('hello'),
  },
  'an extension with a bare carriage return': {
    bytes: chunked(`5;a\rb${crlf}hello${crlf}${last}`),
    seen: seenPost('hello'),
  },
  'an extension that hides a request': {
    // Who reads on to the carriage return takes 2d for the data, and the hidden request for one.
    bytes: chunked(`2;\nxx${crlf}2d${crlf}${last}${hidden}${crlf}${last}`),
    seen: seenPost(`xx${last}${hidden}`),
  },
  'an extension without an end': {
    bytes: chunked(`5;${long(70_000)}${crlf}hello${crlf}${last}`),
    seen: seenPost('hello'),
  },
  'many extensions': {
    bytes: chunked(`${`1;${long(900)}${crlf}x${crlf}`.repeat(40)}${last}`),
    seen: seenPost(long(40)),
  },
  'a size beyond 64 bits': { bytes: chunked(`10000000000000005${crlf}hello${crlf}${last}`), seen: seenPost('hello') },
  'a size of 64 bits': { bytes: chunked(`ffffffffffffffff${crlf}hello${crlf}${last}`), seen: [], ends: true },
  'a size with a sign': { bytes: chunked(`+5${crlf}hello${crlf}${last}`), seen: [] },
  'a negative size': { bytes: chunked(`-5${crlf}hello${crlf}${last}`), seen: [] },
  'a size with 0x': { bytes: chunked(`0x5${crlf}hello${crlf}${last}`), seen: [] },
  'an empty size': { bytes: chunked(`${crlf}hello${crlf}${last}`), seen: [] },
  'a space after the size': { bytes: chunked(`5 ${crlf}hello${crlf}${last}`), seen: seenPost('hello') },
  'a space before the size': { bytes: chunked(` 5${crlf}hello${crlf}${last}`), seen: seenPost('hello') },
  'a size that ends with a bare line feed': { bytes: chunked(`5\nhello${crlf}${last}`), seen: seenPost('hello') },
  'a size that ends with a bare carriage return': { bytes: chunked(`5\rhello${crlf}${last}`), seen: [] },
  'data that ends with a bare line feed': { bytes: chunked(`5${crlf}hello\n${last}`), seen: seenPost('hello') },
  'data that ends with nothing': { bytes: chunked(`5${crlf}hello${last}`), seen: [] },
  'data that is longer': { bytes: chunked(`5${crlf}hello, ${hidden}${crlf}${last}`), seen: [] },
  'a last chunk of many zeros': { bytes: chunked(`5${crlf}hello${crlf}0000${crlf}${crlf}`), seen: seenPost('hello') },
  'two last chunks': { bytes: chunked(`5${crlf}hello${crlf}${last}${last}`), seen: seenPost('hello') },
  'no last chunk': { bytes: chunked(`5${crlf}hello${crlf}`), seen: seenPost('hello'), ends: true },
  'a last line that is a bare line feed': { bytes: chunked(`5${crlf}hello${crlf}0${crlf}\n`), seen: seenPost('hello') },
  'a trailer': { bytes: chunked(`5${crlf}hello${crlf}0${crlf}x-a: b${crlf}${crlf}`), seen: seenPost('hello') },
  'a trailer with headers that count': {
    bytes: chunked(
      `5${crlf}hello${crlf}0${crlf}host: evil${crlf}x-forwarded-for: 6.6.6.6${crlf}authorization: evil${crlf}transfer-encoding: chunked${crlf}${crlf}`,
    ),
    seen: seenPost('hello'),
  },
  'a trailer that is a request': {
    bytes: chunked(`5${crlf}hello${crlf}0${crlf}${hidden}`),
    seen: seenPost('hello'),
  },
  'a trailer without an end': {
    bytes: chunked(`5${crlf}hello${crlf}0${crlf}${`x: ${long(1000)}${crlf}`.repeat(70)}${crlf}`),
    seen: seenPost('hello'),
  },
  'a request behind them': {
    bytes: chunked(`5${crlf}hello${crlf}${last}${get()}`),
    seen: [...seenPost('hello'), ...seenGet],
    whole: true,
  },
  'a request behind them that Connection forbids': {
    bytes: post(`5${crlf}hello${crlf}${last}${hidden}`, 'Transfer-Encoding: chunked', 'Connection: close'),
    seen: seenPost('hello'),
  },
}

const lines: Table = Object.fromEntries(
  Object.entries({
    'bare line feeds': 'GET /echo/ID HTTP/1.1\nhost: app\n\n',
    'bare carriage returns': `GET /echo/ID HTTP/1.1\rhost: app\r\r${crlf}${crlf}`,
    'two carriage returns': get('x: y\r').replaceAll(crlf, '\r\r\n'),
    'empty lines in front': crlf + crlf + get(),
    'a folded value': get('x-a: b\r\n c'),
    'a folded name': get('x-a\r\n : b'),
    'a folded Host': head('GET /echo/ID HTTP/1.1', 'host: app\r\n evil'),
    'a first header that begins with a space': head('GET /echo/ID HTTP/1.1', ' x: y', 'host: app'),
    'no colon': get('x-a'),
    'no name': get(': b'),
    'a space in a name': get('x a: b'),
    'a NUL in a name': get('x\0a: b'),
    'a NUL in a value': get('x-a: b\0c'),
    'a control character in a name': get('x\x01a: b'),
    'a control character in a value': get('x-a: b\x01c'),
    'DEL in a value': get('x-a: b\x7fc'),
    'a carriage return in a value': get('x-a: b\rx-b: c'),
    'a line feed in a value': get('x-a: b\nx-b: c'),
    'a request in a value': get(`x-a: b\r\r${hidden}`),
    'letters beyond ASCII': get('x-a: \xc3\xa9'),
    'bytes that are no text': get('x-a: \xff\xfe'),
    'a name of other letters': get('x-\xe9: b'),
  }).map(([name, bytes]) => [name, { bytes, seen: seenGet }]),
)

const line = (text: string) => head(text, 'host: app')
const targets: Table = {
  'HTTP/0.9': { bytes: `GET /echo/ID${crlf}`, seen: seenGet },
  'a request without an end': { bytes: `GET /echo/ID HTTP/1.1${crlf}host: app${crlf}x-a: b`, seen: [], ends: true },
  'HTTP/1.0 without Host': { bytes: `GET /echo/ID HTTP/1.0${crlf}${crlf}`, seen: seenGet },
  'HTTP/1.0 that keeps the connection': {
    bytes: head('GET /echo/ID HTTP/1.0', 'host: app', 'connection: keep-alive') + get(),
    seen: [...seenGet, ...seenGet],
  },
  'HTTP/1.0 with a request behind it': { bytes: head('GET /echo/ID HTTP/1.0', 'host: app') + hidden, seen: seenGet },
  'HTTP/1.2': { bytes: line('GET /echo/ID HTTP/1.2'), seen: seenGet },
  'HTTP/1.10': { bytes: line('GET /echo/ID HTTP/1.10'), seen: seenGet },
  'HTTP/2.0': { bytes: line('GET /echo/ID HTTP/2.0'), seen: [] },
  'http in lower case': { bytes: line('GET /echo/ID http/1.1'), seen: [] },
  'more spaces': { bytes: line('GET  /echo/ID  HTTP/1.1'), seen: seenGet },
  'tabs for spaces': { bytes: line('GET\t/echo/ID\tHTTP/1.1'), seen: [] },
  'a space in front': { bytes: ` ${get()}`, seen: [] },
  'a space in the target': { bytes: line('GET /echo/ID /smuggled/ID HTTP/1.1'), seen: [] },
  'a second version in the target': { bytes: line('GET /echo/ID HTTP/1.1 HTTP/1.1'), seen: [] },
  'a NUL in the target': { bytes: line('GET /echo/ID\0/smuggled HTTP/1.1'), seen: [] },
  'a control character in the target': { bytes: line('GET /echo/ID\x01 HTTP/1.1'), seen: [] },
  'a carriage return in the target': { bytes: line('GET /echo/ID\rx HTTP/1.1'), seen: [] },
  'bytes beyond ASCII in the target': {
    bytes: line('GET /echo/ID?\xc3\xa9 HTTP/1.1'),
    seen: ['GET /echo/ID?\xc3\xa9'],
  },
  'a line break in the target, encoded': {
    bytes: line('GET /echo/ID%0d%0aX-Evil:%20yes%0d%0a%0d%0aGET%20/smuggled HTTP/1.1'),
    seen: ['GET /echo/ID%0d%0aX-Evil:%20yes%0d%0a%0d%0aGET%20/smuggled'],
  },
  'a NUL in the target, encoded': { bytes: line('GET /echo/ID%00 HTTP/1.1'), seen: ['GET /echo/ID%00'] },
  'a slash, encoded': { bytes: line('GET /echo%2fID HTTP/1.1'), seen: ['GET /echo%2fID'] },
  'dot segments': { bytes: line('GET /echo/../echo/./ID HTTP/1.1'), seen: ['GET /echo/../echo/./ID'] },
  'dot segments, encoded': { bytes: line('GET /echo/%2e%2e/echo/ID HTTP/1.1'), seen: ['GET /echo/%2e%2e/echo/ID'] },
  'dot segments above the root': { bytes: line('GET /../../echo/ID HTTP/1.1'), seen: [] },
  'dot segments and an encoded slash': { bytes: line('GET /echo/..%2fID HTTP/1.1'), seen: ['GET /echo/..%2fID'] },
  'two slashes': { bytes: line('GET //echo//ID HTTP/1.1'), seen: ['GET //echo//ID'] },
  'a target that looks like a host': { bytes: line('GET //evil/echo/ID HTTP/1.1'), seen: ['GET //evil/echo/ID'] },
  'a backslash': { bytes: line('GET /echo\\ID HTTP/1.1'), seen: ['GET /echo\\ID'] },
  'a semicolon': { bytes: line('GET /echo/ID;a=b HTTP/1.1'), seen: ['GET /echo/ID;a=b'] },
  'a fragment': { bytes: line('GET /echo/ID#/smuggled HTTP/1.1'), seen: ['GET /echo/ID#/smuggled'] },
  'what is no percent encoding': { bytes: line('GET /echo/ID%zz HTTP/1.1'), seen: ['GET /echo/ID%zz'] },
  'an absolute target': { bytes: line('GET http://app/echo/ID HTTP/1.1'), seen: seenGet },
  'an absolute target of another host': { bytes: line('GET http://evil/echo/ID HTTP/1.1'), seen: seenGet },
  'an absolute target with a user': { bytes: line('GET http://app@evil/echo/ID HTTP/1.1'), seen: seenGet },
  'an absolute target of another scheme': { bytes: line('GET gopher://app/echo/ID HTTP/1.1'), seen: seenGet },
  'an absolute target without a path': { bytes: line('GET http://app?ID HTTP/1.1'), seen: ['GET /?ID'] },
  'a target without a slash': { bytes: line('GET echo/ID HTTP/1.1'), seen: [] },
  'an authority for a target': { bytes: line('GET app:80 HTTP/1.1'), seen: [] },
  'a star for a target': { bytes: line('GET * HTTP/1.1'), seen: [] },
  'OPTIONS *': { bytes: line('OPTIONS * HTTP/1.1'), seen: ['OPTIONS *'] },
  'a page for those who run nginx': { bytes: line('GET /-/refused/400 HTTP/1.1'), seen: [] },
  CONNECT: { bytes: head('CONNECT app:80 HTTP/1.1', 'host: app:80') + hidden, seen: [] },
  'CONNECT with a path': { bytes: line('CONNECT /echo/ID HTTP/1.1') + hidden, seen: [] },
  TRACE: { bytes: line('TRACE /echo/ID HTTP/1.1'), seen: [] },
  'a method in lower case': { bytes: line('get /echo/ID HTTP/1.1'), seen: [] },
  'a method of no meaning': { bytes: line('MAKE /echo/ID HTTP/1.1'), seen: [] },
  'a method with a control character': { bytes: line('G\x01ET /echo/ID HTTP/1.1'), seen: [] },
  'a long method': { bytes: line(`${'A'.repeat(9_000)} /echo/ID HTTP/1.1`), seen: [] },
  'no target': { bytes: line('GET HTTP/1.1'), seen: [] },
  'no method': { bytes: line('/echo/ID HTTP/1.1'), seen: [] },
  'the preface of HTTP/2': { bytes: `PRI * HTTP/2.0${crlf}${crlf}SM${crlf}${crlf}\0\0\0\x04\0\0\0\0\0`, seen: [] },
  'a greeting of TLS': { bytes: '\x16\x03\x01\0\xc8\x01\0\0\xc4\x03\x03', seen: [], ends: true },
  'a header of the PROXY protocol': { bytes: `PROXY TCP4 6.6.6.6 7.7.7.7 1 2${crlf}${get()}`, seen: [] },
}

const hosts: Table = Object.fromEntries(
  Object.entries({
    none: [],
    'twice the same': ['host: app', 'host: app'],
    'and another': ['host: app', 'host: evil'],
    'behind another': ['host: evil', 'host: app'],
    'and another behind a space': ['host: app', 'host : evil'],
    'and another behind an underscore': ['host: app', 'h_ost: evil'],
    'behind a folded line': [' host: evil', 'host: app'],
    empty: ['host:'],
    'with two ports': ['host: app:80:80'],
    'with a port that is no number': ['host: app:x'],
    'with a user': ['host: app@evil'],
    'with a path': ['host: app/smuggled'],
    'with a query': ['host: app?evil'],
    'with a space': ['host: app evil'],
    'with a comma': ['host: app, evil'],
    'with a NUL': ['host: app\0evil'],
    'with a line break': ['host: app\rx: y'],
    'with a quote': ['host: app"><script>'],
    'with dots in front': ['host: ..app'],
    'an address in brackets without an end': ['host: [::1'],
    'very long': [`host: ${long(9_000)}`],
  }).map(([name, lines]) => [name, { bytes: head('GET /page/ID HTTP/1.1', ...lines), seen: seenPage }]),
)

const hops: Table = {
  ...Object.fromEntries(
    [
      'X-Forwarded-For',
      'X-Forwarded-Host',
      'Host',
      'X-Request-Id',
      'X-Rung-Page',
      'Authorization',
      'Cookie',
      'close, Host',
      ',',
    ].map((name): [string, Table[string]] => [
      `Connection: ${name}`,
      { bytes: get(`connection: ${name}`, 'authorization: Token x', 'cookie: session=x'), seen: seenGet },
    ]),
  ),
  'Upgrade: h2c': {
    bytes: get('connection: Upgrade, HTTP2-Settings', 'upgrade: h2c', 'http2-settings: AAMAAABkAARAAAAAAAIAAAAA'),
    seen: seenGet,
  },
  'Upgrade: h2c, and its preface': {
    bytes: `${get('connection: Upgrade, HTTP2-Settings', 'upgrade: h2c', 'http2-settings: AAMAAABkAARAAAAAAAIAAAAA')}PRI * HTTP/2.0${crlf}${crlf}SM${crlf}${crlf}`,
    seen: seenGet,
  },
  'Upgrade: websocket, and a request behind it': {
    bytes:
      get(
        'connection: Upgrade',
        'upgrade: websocket',
        'sec-websocket-version: 13',
        'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==',
      ) + hidden,
    seen: [...seenGet, 'GET /smuggled/ID'], // one after the other, as without Upgrade
  },
  'Upgrade: websocket of a wrong version': {
    bytes: get('connection: Upgrade', 'upgrade: websocket', 'sec-websocket-version: 777'),
    seen: seenGet,
  },
  'Upgrade with a body': {
    bytes: post(hidden, 'connection: Upgrade', 'upgrade: h2c', length(hidden)),
    seen: seenPost(hidden),
  },
  'Expect: 100-continue': {
    bytes: post('hello', 'expect: 100-continue', 'content-length: 5'),
    seen: seenPost('hello'),
  },
  'Expect: 100-continue, of a body that is refused': {
    bytes: head('POST /refused/ID HTTP/1.1', 'host: app', 'expect: 100-continue', length(hidden)) + hidden,
    seen: ['POST /refused/ID'],
  },
  'Expect: 100-continue, of a GET': { bytes: get('expect: 100-continue', length(hidden)) + hidden, seen: seenGet },
  'Expect with more in front': {
    bytes: post(hidden, 'expect: y 100-continue', length(hidden)),
    seen: seenPost(hidden),
  },
  'Expect of something else': { bytes: post(hidden, 'expect: 200-maybe', length(hidden)), seen: seenPost(hidden) },
  'Expect twice': {
    bytes: post(hidden, 'expect: 100-continue', 'expect: 100-continue', length(hidden)),
    seen: seenPost(hidden),
  },
  'Expect folded': { bytes: post(hidden, 'expect:\r\n 100-continue', length(hidden)), seen: seenPost(hidden) },
  'Proxy-Connection': { bytes: get('proxy-connection: keep-alive') + get(), seen: [...seenGet, ...seenGet] },
  'Keep-Alive': {
    bytes: get('connection: keep-alive', 'keep-alive: timeout=0, max=1') + get(),
    seen: [...seenGet, ...seenGet],
  },
  'three in one go': {
    bytes: get() + post('hello', 'content-length: 5') + get(),
    seen: [...seenGet, ...seenPost('hello'), ...seenGet],
    whole: true,
  },
  'a hundred in one go': { bytes: get().repeat(100), seen: Array.from({ length: 100 }, () => seenGet[0]), whole: true },
  'one behind a HEAD': {
    bytes: head('HEAD /echo/ID HTTP/1.1', 'host: app') + get(),
    seen: [...seenHead, ...seenGet],
    whole: true,
  },
  'one behind what is refused': { bytes: get('no colon\0') + hidden, seen: seenGet },
  'one behind the last': { bytes: get('connection: close') + hidden, seen: seenGet },
  'a request in a body': { bytes: post(hidden, length(hidden)), seen: seenPost(hidden), whole: true },
  'a request in a query': {
    bytes: line('GET /echo/ID?%20HTTP/1.1%0d%0ahost:%20evil%0d%0a%0d%0a HTTP/1.1'),
    seen: ['GET /echo/ID?%20HTTP/1.1%0d%0ahost:%20evil%0d%0a%0d%0a'],
    whole: true,
  },
}

const sizes: Table = {
  'a header of 15 KiB': { bytes: get(`x: ${long(15_000)}`), seen: seenGet, whole: true },
  'a header of 20 KiB': { bytes: get(`x: ${long(20_000)}`), seen: [] },
  'a name of 20 KiB': { bytes: get(`${long(20_000)}: x`), seen: [] },
  'headers of 30 KiB together': {
    bytes: get(...Array.from({ length: 30 }, (_, n) => `x-${n}: ${long(1000)}`)),
    seen: [],
  },
  'headers of 80 KiB together': {
    bytes: get(...Array.from({ length: 80 }, (_, n) => `x-${n}: ${long(1000)}`)),
    seen: [],
  },
  'a thousand headers': { bytes: get(...Array.from({ length: 1000 }, (_, n) => `x${n}: 1`)), seen: seenGet },
  'a target of 15 KiB': {
    bytes: line(`GET /echo/ID?${long(15_000)} HTTP/1.1`),
    seen: [`GET /echo/ID?${long(15_000)}`],
  },
  'a target of 20 KiB': { bytes: line(`GET /echo/ID?${long(20_000)} HTTP/1.1`), seen: [] },
  'a body of 2 MiB': { bytes: post(long(2_000_000), 'content-length: 2000000'), seen: ['POST /echo/ID'] },
}

/** Requests for a page that is kept for all others, with what is not part of its key. */
const poison: Table = {
  ...Object.fromEntries(
    [
      'x-forwarded-host: evil',
      'x-forwarded-host: evil\r\nx-forwarded-host: evil',
      'x_forwarded_host: evil',
      'x-forwarded-proto: evil',
      'x-forwarded-scheme: http',
      'x-forwarded-ssl: on',
      'x-forwarded-port: 666',
      'x-forwarded-prefix: /evil',
      'x-forwarded-server: evil',
      'x-forwarded-for: 6.6.6.6',
      'x-forwarded-for: 127.0.0.1, 6.6.6.6',
      'x-real-ip: 6.6.6.6',
      'true-client-ip: 6.6.6.6',
      'x-host: evil',
      'x-original-url: /evil',
      'x-rewrite-url: /evil',
      'x-http-method-override: POST',
      'x-method-override: DELETE',
      'forwarded: for=6.6.6.6;host=evil;proto=evil',
      'x-rung-page: 00000000000000000000000000000000:1',
      'x-rung-purges: evil.1',
      'x-accel-expires: 0',
      'x-accel-redirect: /-/refused/400',
      'x-accel-buffering: no',
      'x-request-id: evil',
      'x-request-id: a%0d%0aevil',
      'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      'range: bytes=0-3',
      'range: bytes=0-3\r\nif-range: "x"',
      'if-none-match: *',
      'if-match: "x"',
      'if-modified-since: Fri, 01 Jan 2100 00:00:00 GMT',
      'accept-encoding: evil',
      'accept-language: evil',
      'accept: evil/evil',
      'origin: http://evil',
      'referer: http://evil',
      'cookie: evil=1',
      'cookie: session=evil',
      'authorization: Token evil',
      'cache-control: no-store',
      'cache-control: only-if-cached',
      'pragma: no-cache',
      'surrogate-capability: evil="ESI/1.0"',
      'content-type: text/evil',
      'transfer-encoding: chunked\r\nx: y',
      'expect: 100-continue',
      'x-metachar: \x07',
      'max-forwards: 0',
    ].map((header): [string, Table[string]] => [
      header.replaceAll('\r\n', ' and ').replace('\x07', 'a bell'),
      {
        bytes: page(header) + (header.startsWith('transfer-encoding') ? last : ''),
        seen: seenPage,
      },
    ]),
  ),
  'a body': { bytes: `${page('content-length: 4', 'content-type: text/plain')}evil`, seen: seenPage },
  'a body of JSON that is none': {
    bytes: `${page('content-length: 4', 'content-type: application/json')}evil`,
    seen: seenPage,
  },
  'HEAD before GET': { bytes: head('HEAD /page/ID HTTP/1.1', 'host: app'), seen: seenPage },
  'another host': { bytes: head('GET /page/ID HTTP/1.1', 'host: evil'), seen: seenPage },
  'a host in capitals': { bytes: head('GET /page/ID HTTP/1.1', 'host: APP'), seen: seenPage },
  'a host with a port': { bytes: head('GET /page/ID HTTP/1.1', 'host: app:666'), seen: seenPage },
  'an absolute target of another host': { bytes: line('GET http://evil/page/ID HTTP/1.1'), seen: seenPage },
  'an absolute target of another scheme': { bytes: line('GET https://app/page/ID HTTP/1.1'), seen: seenPage },
  'dot segments': { bytes: line('GET /evil/../page/ID HTTP/1.1'), seen: ['GET /evil/../page/ID'] },
  'two slashes': { bytes: line('GET //page/ID HTTP/1.1'), seen: ['GET //page/ID'] },
  'an encoded letter': { bytes: line('GET /%70age/ID HTTP/1.1'), seen: ['GET /%70age/ID'] },
  'a fragment': { bytes: line('GET /page/ID#evil HTTP/1.1'), seen: ['GET /page/ID#evil'] },
  'an empty query': { bytes: line('GET /page/ID? HTTP/1.1'), seen: ['GET /page/ID?'] },
  'a POST': { bytes: head('POST /page/ID HTTP/1.1', 'host: app', 'content-length: 0'), seen: ['POST /page/ID'] },
  'a page behind a page of another host': {
    bytes: head('GET /page/ID HTTP/1.1', 'host: evil') + page(),
    seen: ['GET /page/ID', 'GET /page/ID'],
  },
}

export const rawRequests: readonly RawRequest[] = [
  ...named(encodings(), 'encoding'),
  ...named(lengths, 'length'),
  ...named(moreLengths, 'length'),
  ...named(chunks, 'chunks'),
  ...named(lines, 'lines'),
  ...named(targets, 'target'),
  ...named(hosts, 'host'),
  ...named(hops, 'hop'),
  ...named(sizes, 'size'),
  ...named(poison, 'kept page'),
]
