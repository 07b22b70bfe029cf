/** Compiles src/ to dist/ for publishing, and copies its SQL, Lua and CSS, and the pages of the console. Inside the repository sources run as they are. */
import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, globSync, mkdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'

const root = path.resolve(import.meta.dirname, '..')
rmSync(path.join(root, 'dist'), { recursive: true, force: true })
const tsc = path.join(path.dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc')
const { status } = spawnSync(process.execPath, [tsc, '-p', path.join(root, 'tsconfig.build.json')], {
  stdio: 'inherit',
  cwd: root,
})
if (status !== 0) process.exit(status ?? 1)
chmodSync(path.join(root, 'dist/cli/bin.js'), 0o755)

for (const file of globSync(['**/*.{sql,lua,css}', 'console/page/*'], { cwd: path.join(root, 'src') })) {
  const target = path.join(root, 'dist', file)
  mkdirSync(path.dirname(target), { recursive: true })
  copyFileSync(path.join(root, 'src', file), target)
}
