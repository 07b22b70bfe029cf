import { bytes, command, h, link, of, panel, quoted, table, when, whole } from './dom.js'

/** Mail that was written and not sent, and files on the disk: in development. */
export const mail = {
  path: '/mail',
  title: 'Mail and files',
  key: 'm',
  views: (query) => [
    'mails?last=50',
    'files?last=50',
    ...(query.get('id') === null ? [] : [`mail?id=${encodeURIComponent(query.get('id'))}`]),
  ],
  draw: (readings, tools) => [
    tools.query().get('id') !== null &&
      panel(
        'One mail',
        of(readings, 'mail', (mail) => one(mail, tools)),
        h('p.note', {}, link('/mail', 'Close it')),
      ),
    panel(
      'Mail that was written and not sent, the newest first',
      of(readings, 'mails', (view) => (view.hidden === null ? list(view, tools) : h('p.empty', {}, view.hidden))),
      command('rung mail'),
    ),
    panel(
      'Files on the disk, the newest first',
      of(readings, 'files', (view) => (view.hidden === null ? stored(view, tools) : h('p.empty', {}, view.hidden))),
      command('rung files'),
    ),
  ],
}

/** What is listed of how many, if not all are. */
const cutText = (listed, total, more = false) =>
  (listed < total || more) && h('p.note', {}, `${whole(listed)} of ${more ? 'more than ' : ''}${whole(total)}`)

const list = ({ mails, total }, tools) => [
  table(
    [
      [
        'subject',
        ({ id, subject }) => {
          const isShown = tools.query().get('id') === id
          return link(`/mail?id=${encodeURIComponent(id)}`, subject || '(no subject)', {
            'aria-current': isShown && 'true',
          })
        },
        { wide: true },
      ],
      ['to', ({ to }) => to],
      ['from', ({ from }) => from],
      ['size', ({ size }) => bytes(size), { number: true }],
      ['written', ({ at }) => when(at)],
    ],
    mails,
    'No mail yet. What the app sends with mail.send is shown here while RUNG_SMTP_URL is not set.',
  ),
  cutText(mails.length, total),
]

const heads = {
  subject: 'subject',
  from: 'from',
  to: 'to',
  cc: 'cc',
  'reply-to': 'reply to',
  'x-envelope-to': 'delivered to',
  'message-id': 'id',
}

const one = ({ id, at, headers, text, html }, tools) => [
  h(
    'dl.headers',
    {},
    ...Object.entries(heads).flatMap(([name, head]) =>
      headers[name] === undefined ? [] : [h('dt', {}, head), h('dd', {}, headers[name])],
    ),
    h('dt', {}, 'written'),
    h('dd', {}, when(at)),
  ),
  html !== null && [
    h('h3', {}, 'HTML: scripts, forms and remote pictures are off'),
    h('iframe', {
      sandbox: true,
      title: 'The HTML of the mail',
      src: tools.content('mail', { id }),
    }),
  ],
  h('h3', {}, 'Text'),
  h('pre.text', { tabindex: 0 }, text ?? ''),
  command(`rung mail show ${quoted(id)}`),
]

const stored = ({ files, total, more }, tools) => [
  table(
    [
      [
        '',
        ({ key, isPicture }) =>
          isPicture && h('img.preview', { src: tools.content('picture', { key }), alt: '', loading: 'lazy' }),
      ],
      ['file', ({ key }) => key, { wide: true }],
      ['size', ({ size }) => bytes(size), { number: true }],
      ['type', ({ contentType }) => contentType],
      ['stored', ({ storedAt }) => when(storedAt)],
    ],
    files,
    'No file yet. What the app stores with files.put is shown here, unless it is in an S3 store.',
  ),
  cutText(files.length, total, more),
]
