#!/usr/bin/env node
/**
 * `npm run fast-try` on a clean clone: installs, compiles, then hands over to `ledgermq fast-try` with the same
 * arguments and terminal. Plain JavaScript, because it runs before anything is compiled.
 */
import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { prepare } from './prepare.mjs'

prepare()
const main = join(dirname(fileURLToPath(import.meta.url)), '..', 'dist', 'src', 'cli', 'main.js')
const child = spawn(process.execPath, [main, 'fast-try', ...process.argv.slice(2)], { stdio: 'inherit' })
// Ctrl-C reaches the child by itself; this process only waits for it and passes a plain kill on.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => child.kill('SIGTERM'))
child.on('exit', (code, signal) => {
  process.exitCode = signal ? 1 : (code ?? 1)
})
