// The translator of PTX (test/native/ptx): what it makes of a kernel, and what it refuses. That the C++ does what PTX
// says is test/native/cuda_ptx_test.cpp's to show.
import { describe, expect, test } from 'vitest';
import { PtxError } from './native/ptx/lex.mjs';
import { asMangledByGcc, translate } from './native/ptx/translate.mjs';

/** A kernel of these lines, the first of which is line 5 of the file. */
const kernel = (...lines: string[]) => `.version 9.0
.target sm_90
.visible .entry simple(.param .u64 .ptr .align 1 out, .param .align 8 .b8 op[24])
{ .reg .pred %p<4>; .reg .b16 %rs<4>; .reg .b32 %r<9>; .reg .f32 %f<4>; .reg .b64 %rd<4>;
${lines.join('\n')}
}
`;
const statements = (...lines: string[]) =>
  translate(kernel(...lines), 'simple.ptx').replace(/(?<=\b[a-z]+\d+)_\d+/g, '');

describe('a kernel', () => {
  test('becomes a function with labels, guards and the lines of the PTX', () => {
    const text = statements(
      'ld.param.u64 %rd1, [out];',
      '$L__again:',
      '',
      'add.s32 %r1, %r1, -1; // and so on',
      'setp.ne.s32 %p1, %r1, 0;',
      '@!%p1 bra $L__again;',
      'ret;',
    );
    expect(text).toContain('#line 5 "simple.ptx"');
    expect(text).toContain(
      '_L__again:;\n#line 8 "simple.ptx"\n  r1 = static_cast<uint32_t>(r1 + static_cast<uint32_t>(0xffffffffu));',
    );
    expect(text).toContain('if (!p1) goto _L__again;');
    expect(text).toContain('{"simple", {8, 24}, 1024, kernel_0}');
  });

  test('leaves out what nothing uses', () => {
    const text = statements('$L__never:', 'mov.b32 %r1, 0;', 'ret;');
    expect(text).toContain('uint32_t r1 = ');
    expect(text).not.toMatch(/L__never|\br2\b|\brs1\b/);
  });

  test('is known by the name that g++ gives it', () => {
    const nvcc = '_ZN4rlvr4cuda20_GLOBAL__N__0123_4_a6kernelILb1EEEvi';
    expect(asMangledByGcc(nvcc)).toBe('_ZN4rlvr4cuda12_GLOBAL__N_16kernelILb1EEEvi');
    expect(asMangledByGcc('_Z6kerneli')).toBe('_Z6kerneli');
  });
});

describe('refused, with the line', () => {
  test.each([
    ['an unknown instruction', 'mma.sync.aligned.m16n8k16 %r1, %r2;', 'unknown instruction mma.sync'],
    ['an unknown modifier', 'add.rz.f32 %f1, %f2, %f3;', 'unknown instruction add.rz.f32'],
    ['a call', 'call.uni (retval0), vprintf, (param0);', 'unknown instruction call.uni'],
    ['too few operands', 'add.s32 %r1, %r2;', 'operands of add.s32'],
    ['an integer as a float', 'add.f32 %f1, %f2, 1;', 'a number of another type than f32'],
    ['a barrier of part of a block', 'bar.sync 1;', 'a barrier other than 0'],
    ['a vector of another length', 'ld.global.v4.u32 {%r1, %r2}, [%rd1];', 'expected 4 registers'],
    ['a parameter beyond its end', 'ld.param.u64 %rd1, [op+20];', 'op has no 8 bytes at 20'],
    ['an unknown register', 'mov.u32 %r1, %clock;', 'what is %clock?'],
    ['a guard that is no predicate', '@%r1 ret;', '%r1 is no predicate'],
    ['an unknown directive', '.callprototype _;', '.callprototype is not supported'],
    ['what is no PTX', 'mov.u32 %r1, #;', 'what is "#;'],
  ])('%s', (_, line, message) => {
    const fail = () => translate(kernel('mov.b32 %r1, 0;', line, 'ret;'), 'simple.ptx');
    expect(fail).toThrow(PtxError);
    expect(fail).toThrow(`simple.ptx:6: ${message}`);
  });

  test('a function', () => {
    expect(() => translate('.version 9.0\n.func (.param .b32 r) f()\n{ ret; }', 'f.ptx')).toThrow('f.ptx:2: .func');
  });
});
