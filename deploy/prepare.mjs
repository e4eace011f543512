#!/usr/bin/env node
/**
 * Brings a checkout to the state in which everything else can run: dependencies as locked, everything compiled.
 *
 * Called before `npm test`, `npm run fast-try`, `npm run bench` and friends, so that a clean clone needs no other
 * command first. Does nothing that is already done. Plain JavaScript with nothing but Node, because it runs first.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const oldestNode = [20, 19]

/** An installed package brings its compiled files along and has no sources to compile. */
function isCheckout() {
  return existsSync(join(root, 'tsconfig.json')) && existsSync(join(root, 'src'))
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major > oldestNode[0] || (major === oldestNode[0] && minor >= oldestNode[1])) return
  fail(`Node ${process.versions.node} is too old: LedgerMQ needs ${oldestNode.join('.')} or newer.`)
}

/** npm keeps a copy of the lock file's packages in node_modules; the same versions mean nothing to install. */
function isInstalled() {
  try {
    const locked = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
    const installed = JSON.parse(readFileSync(join(root, 'node_modules', '.package-lock.json'), 'utf8')).packages
    return Object.entries(locked).every(
      ([path, entry]) => path === '' || entry.optional || installed[path]?.version === entry.version,
    )
  } catch {
    return false
  }
}

function run(what, command, args) {
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8', shell: process.platform === 'win32' })
  if (result.status === 0) return
  process.stderr.write(`${result.stdout ?? ''}${result.stderr ?? ''}`)
  fail(`${what} failed: ${[command, ...args].join(' ')}`)
}

function fail(message) {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

export function prepare() {
  checkNode()
  if (!isCheckout()) return
  if (!isInstalled()) {
    process.stderr.write('Installing dependencies …\n')
    run('Installing', 'npm', ['ci', '--no-audit', '--no-fund'])
  }
  run('Compiling', process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-b'])
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) prepare()
