/** What every implementation of the disk port does. Run against the real one and the one in memory. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Disk } from '../../store/disk.ts'

export interface DiskUnderTest {
  readonly disk: Disk
  cleanUp(): Promise<void>
}

export function diskSuite(name: string, make: () => Promise<DiskUnderTest>): void {
  describe(`the disk port of ${name}`, () => {
    let made: DiskUnderTest
    let disk: Disk
    beforeEach(async () => {
      made = await make()
      disk = made.disk
    })
    afterEach(() => made.cleanUp())

    async function fileWith(path: string, content: string): Promise<void> {
      const file = await disk.open(path, { create: true })
      await file.write([Buffer.from(content)], 0)
      await file.close()
    }

    async function contentOf(path: string): Promise<string> {
      const file = await disk.open(path, { create: false })
      const content = await file.read(0, await file.size())
      await file.close()
      return content.toString()
    }

    test('opens no file that is missing unless it may create it', async () => {
      await expect(disk.open('a', { create: false })).rejects.toMatchObject({ code: 'ENOENT' })
      await expect(disk.open('folder/a', { create: true })).rejects.toMatchObject({ code: 'ENOENT' })
      await (await disk.open('a', { create: true })).close()
      await (await disk.open('a', { create: false })).close()
    })

    test('tells the space of the file system, less of it free after a file has grown', async () => {
      const before = await disk.space('.')
      expect(before.totalBytes).toBeGreaterThan(0)
      expect(before.freeBytes).toBeLessThanOrEqual(before.totalBytes)
      await expect(disk.space('missing')).rejects.toMatchObject({ code: 'ENOENT' })
    })

    test('opening with create keeps the content of a file that exists', async () => {
      await fileWith('a', 'kept')
      await (await disk.open('a', { create: true })).close()
      expect(await contentOf('a')).toBe('kept')
    })

    test('writes all buffers in order from the position', async () => {
      const file = await disk.open('a', { create: true })
      await file.write([Buffer.from('ab'), Buffer.alloc(0), Buffer.from('cd'), Buffer.from('e')], 3)
      await file.write([Buffer.from('X')], 4)
      expect(await file.read(0, 8)).toEqual(Buffer.from('\0\0\0aXcde'))
      expect(await file.size()).toBe(8)
      await file.close()
    })

    test('writes more buffers than one system call takes', async () => {
      const file = await disk.open('a', { create: true })
      const buffers = Array.from({ length: 3000 }, (_, at) => Buffer.from([at % 251, at % 13]))
      await file.write(buffers, 5000)
      expect(await file.read(5000, 6000)).toEqual(Buffer.concat(buffers))
      await file.close()
    })

    test('writes and reads across pages', async () => {
      const file = await disk.open('a', { create: true })
      const bytes = Buffer.from(Array.from({ length: 20_000 }, (_, at) => (at * 7) % 256))
      await file.write([bytes.subarray(0, 9000), bytes.subarray(9000)], 4000)
      await file.write([Buffer.alloc(8192)], 8192)
      bytes.fill(0, 8192 - 4000, 16_384 - 4000)
      expect(await file.read(4000, 20_000)).toEqual(bytes)
      await file.close()
    })

    test('a read at the end of the file is short, behind it empty', async () => {
      await fileWith('a', 'abcdef')
      const file = await disk.open('a', { create: false })
      expect(await file.read(4, 100)).toEqual(Buffer.from('ef'))
      expect(await file.read(6, 1)).toHaveLength(0)
      expect(await file.read(1000, 10)).toHaveLength(0)
      await file.close()
    })

    test('truncate shortens, and lengthens with zeros', async () => {
      await fileWith('a', 'abcdef')
      const file = await disk.open('a', { create: false })
      await file.truncate(2)
      expect(await file.size()).toBe(2)
      await file.truncate(5000)
      expect(await file.read(0, 5000)).toEqual(Buffer.concat([Buffer.from('ab')], 5000))
      await file.close()
    })

    test('lists the sorted names of one directory only, and nothing for a missing one', async () => {
      await disk.makeDirectory('folder/inner')
      await fileWith('folder/b', '')
      await fileWith('folder/a', '')
      await fileWith('folder/inner/c', '')
      expect(await disk.list('folder')).toEqual(['a', 'b', 'inner'])
      expect(await disk.list('missing')).toEqual([])
      await disk.makeDirectory('folder/inner')
      expect(await disk.list('folder/inner')).toEqual(['c'])
    })

    test('rename replaces its target, unlink removes', async () => {
      await fileWith('a', 'new')
      await fileWith('b', 'old')
      await disk.rename('a', 'b')
      expect(await contentOf('b')).toBe('new')
      expect(await disk.list('.')).toEqual(['b'])
      await disk.unlink('b')
      expect(await disk.list('.')).toEqual([])
      await expect(disk.rename('a', 'b')).rejects.toMatchObject({ code: 'ENOENT' })
      await expect(disk.unlink('a')).rejects.toMatchObject({ code: 'ENOENT' })
    })

    test('removes an empty directory only', async () => {
      await disk.makeDirectory('folder')
      await fileWith('folder/a', '')
      await expect(disk.removeDirectory('folder')).rejects.toThrow()
      await disk.unlink('folder/a')
      await disk.removeDirectory('folder')
      await expect(disk.removeDirectory('folder')).rejects.toMatchObject({ code: 'ENOENT' })
      expect(await disk.list('.')).toEqual([])
    })

    test('an open file outlives its unlink and its rename', async () => {
      const file = await disk.open('a', { create: true })
      await disk.rename('a', 'b')
      await file.write([Buffer.from('x')], 0)
      expect(await contentOf('b')).toBe('x')
      await disk.unlink('b')
      expect(await file.read(0, 1)).toEqual(Buffer.from('x'))
      await file.close()
    })

    test('syncs files and directories', async () => {
      await disk.makeDirectory('folder')
      const file = await disk.open('folder/a', { create: true })
      await file.write([Buffer.from('x')], 0)
      await file.sync()
      await file.close()
      await disk.syncDirectory('folder')
      await disk.syncDirectory('.')
      await expect(disk.syncDirectory('missing')).rejects.toMatchObject({ code: 'ENOENT' })
    })

    test('two handles of one file see the same bytes', async () => {
      const one = await disk.open('a', { create: true })
      const two = await disk.open('a', { create: false })
      await Promise.all([one.write([Buffer.from('ab')], 0), two.write([Buffer.from('cd')], 2)])
      await two.sync()
      expect(await one.read(0, 4)).toEqual(Buffer.from('abcd'))
      await one.close()
      await two.close()
    })
  })
}
