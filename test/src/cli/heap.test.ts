import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

/** V8 says nothing about a flag that it takes, and complains on stderr about one that it does not know. */
test('this Node.js knows the flag that lets the heap grow', () => {
  const heap = fileURLToPath(new URL('../../../dist/src/cli/heap.js', import.meta.url))
  const script = `import { letHeapGrow } from ${JSON.stringify(heap)}; letHeapGrow()`
  const ran = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  expect(ran.stdout + ran.stderr).toBe('')
  expect(ran.status).toBe(0)
})
