import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import {
  appendFileSync,
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { watchSources } from '../../src/cli/watch-sources.ts'

/** Programs save files in these ways; each is tried three times in a row, since a watch may survive the first alone. */
const waysToSave: Record<string, (file: string, text: string) => void> = {
  'write in place': writeFileSync,
  append: (file, text) => appendFileSync(file, `${text}\n`),
  'truncate, then write (nano)': (file, text) => {
    const handle = openSync(file, 'r+')
    ftruncateSync(handle, 0)
    writeSync(handle, text)
    fsyncSync(handle)
    closeSync(handle)
  },
  'a new file, moved over the old one (mv, safe write)': (file, text) => {
    writeFileSync(`${file}.tmp`, text)
    renameSync(`${file}.tmp`, file)
  },
  'a new file from another folder, moved over the old one': (file, text) => {
    const draft = path.join(path.dirname(path.dirname(file)), '.draft')
    writeFileSync(draft, text)
    renameSync(draft, file)
  },
  'sed -i': (file, text) => {
    execFileSync('sed', ['-i.bak', `1s/.*/${text}/`, file])
    rmSync(`${file}.bak`)
  },
  'the old one renamed to a backup, a new one written (vim)': (file, text) => {
    renameSync(file, `${file}~`)
    writeFileSync(file, text)
    unlinkSync(`${file}~`)
  },
  'delete, then create': (file, text) => {
    unlinkSync(file)
    writeFileSync(file, text)
  },
  'git checkout': (file, text) => {
    const git = (...args: string[]) =>
      execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.org', ...args], {
        cwd: path.dirname(file),
        stdio: 'pipe',
      })
    if (!existsSync(path.join(path.dirname(file), '.git'))) git('init', '-q')
    git('add', '-A')
    git('commit', '-q', '--allow-empty', '-m', 'before')
    git('checkout', '-q', '-b', text)
    const old = readFileSync(file)
    writeFileSync(`${file}.tmp`, text)
    const blob = git('hash-object', '-w', `${file}.tmp`).toString().trim()
    rmSync(`${file}.tmp`)
    git('update-index', '--cacheinfo', `100644,${blob},${path.basename(file)}`)
    git('commit', '-q', '-m', text)
    assert.deepEqual(readFileSync(file), old)
    git('checkout', '-q', '--', path.basename(file))
  },
  'a write whose time is set back (rsync, cp -p)': (file, text) => {
    const { atime, mtime } = statSync(file)
    writeFileSync(file, text.padEnd(40))
    utimesSync(file, atime, mtime)
  },
  'a symbolic link, swapped': (file, text) => {
    const target = path.join(path.dirname(path.dirname(file)), `target-${text}`)
    writeFileSync(target, text)
    symlinkSync(target, `${file}.link`)
    renameSync(`${file}.link`, file)
  },
  'in place behind a symbolic link': (file, text) => {
    const target = path.join(path.dirname(path.dirname(file)), 'elsewhere', 'target.ts')
    if (realpathSync(file) !== target) {
      mkdirSync(path.dirname(target))
      writeFileSync(target, text)
      unlinkSync(file)
      symlinkSync(target, file)
    } else writeFileSync(target, text)
  },
}

interface Watched {
  /** A file that is there from the beginning: `source/deep/module.ts`. */
  file: string
  root: string
  /** Waits for the next report. */
  next(): Promise<string[]>
  /** What was reported and not yet taken. */
  reports: string[][]
}

async function watched(body: (watched: Watched) => Promise<void>): Promise<void> {
  const dir = realpathSync(mkdtempSync(path.join(tmpdir(), 'rung-test-')))
  const root = path.join(dir, 'app')
  const file = path.join(root, 'source', 'deep', 'module.ts')
  mkdirSync(path.dirname(file), { recursive: true })
  mkdirSync(path.join(root, 'data'))
  writeFileSync(file, 'zero')
  writeFileSync(path.join(root, 'app.ts'), 'zero')
  const reports: string[][] = []
  const bell = new EventEmitter()
  const end = watchSources({
    roots: [root],
    except: [path.join(root, 'data'), path.join(root, 'load.ts')],
    onChange(files) {
      reports.push(files.map((changed) => path.relative(root, changed)).sort())
      bell.emit('report')
    },
  })
  const next = async () => {
    if (reports.length === 0) await once(bell, 'report', { signal: AbortSignal.timeout(60_000) })
    return reports.shift()!
  }
  try {
    await body({ file, root, next, reports })
  } finally {
    end()
    rmSync(dir, { recursive: true, force: true })
  }
}

for (const [way, save] of Object.entries(waysToSave)) {
  test(`a change is seen, and the next ones: ${way}`, () =>
    watched(async ({ file, next }) => {
      for (const text of ['one', 'two', 'three']) {
        save(file, text)
        assert.deepEqual(await next(), ['source/deep/module.ts'])
        assert.match(readFileSync(file, 'utf8'), new RegExp(text))
      }
    }))
}

test('new folders, with what was in them before they were seen', () =>
  watched(async ({ root, next }) => {
    mkdirSync(path.join(root, 'orders', 'migrations'), { recursive: true })
    writeFileSync(path.join(root, 'orders', 'migrations', '0001_order.sql'), 'select 1')
    assert.deepEqual(await next(), ['orders/migrations/0001_order.sql'])
    writeFileSync(path.join(root, 'orders', 'migrations', '0002_more.sql'), 'select 2')
    assert.deepEqual(await next(), ['orders/migrations/0002_more.sql'])
    renameSync(path.join(root, 'orders'), path.join(root, 'sales'))
    assert.deepEqual((await next()).length, 4)
    writeFileSync(path.join(root, 'sales', 'migrations', '0002_more.sql'), 'select 3')
    assert.deepEqual(await next(), ['sales/migrations/0002_more.sql'])
  }))

test('a folder that is replaced by another of the same name, again and again', () =>
  watched(async ({ root, file, next }) => {
    for (const text of ['one', 'two', 'three']) {
      rmSync(path.join(root, 'source'), { recursive: true })
      mkdirSync(path.dirname(file), { recursive: true })
      writeFileSync(file, text)
      assert.deepEqual(await next(), ['source/deep/module.ts'])
      writeFileSync(file, `${text} more`)
      assert.deepEqual(await next(), ['source/deep/module.ts'])
    }
  }))

test('the watched folder itself goes and comes back', () =>
  watched(async ({ root, file, next }) => {
    rmSync(root, { recursive: true })
    assert.equal((await next()).length, 2)
    mkdirSync(path.dirname(file), { recursive: true })
    writeFileSync(file, 'back')
    assert.deepEqual(await next(), ['source/deep/module.ts'])
  }))

test('a deleted file counts as changed', () =>
  watched(async ({ root, next }) => {
    unlinkSync(path.join(root, 'app.ts'))
    assert.deepEqual(await next(), ['app.ts'])
  }))

test('many files at once are one report', () =>
  watched(async ({ root, next }) => {
    for (let n = 0; n < 200; n += 1) writeFileSync(path.join(root, 'source', `m${n}.ts`), String(n))
    assert.equal((await next()).length, 200)
  }))

test('what changes nothing, or is no source, is not reported', () =>
  watched(async ({ root, file, next, reports }) => {
    utimesSync(file, new Date(), new Date()) // touch
    writeFileSync(file, 'zero') // the same content
    writeFileSync(path.join(root, 'app.log'), 'a line')
    writeFileSync(path.join(root, 'source', '.module.ts.swp'), 'an editor')
    writeFileSync(path.join(root, 'data', 'seen.json'), '{}')
    writeFileSync(path.join(root, 'load.ts'), 'a scenario')
    for (const folder of ['node_modules', '.git', '.rung', 'dist', '.vscode']) {
      mkdirSync(path.join(root, folder))
      writeFileSync(path.join(root, folder, 'file.json'), '{}')
    }
    mkdirSync(path.join(root, 'empty'))
    symlinkSync('..', path.join(root, 'around'))
    symlinkSync('nowhere', path.join(root, 'source', '.#module.ts')) // a lock of Emacs
    // All of that lies before this change, so it would be in its report.
    writeFileSync(path.join(root, 'app.ts'), 'one')
    assert.deepEqual(await next(), ['app.ts'])
    assert.deepEqual(reports, [])
  }))
