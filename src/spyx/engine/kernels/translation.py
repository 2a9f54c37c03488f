"""From a kernel to LLVM's representation: every statement becomes blocks, every expression a value."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from spyx.engine.kernels.language import BOOL, BYTE, INT, LITERAL, SCALARS, Kernel, KernelError, Type, Value

if TYPE_CHECKING:
    from llvmlite import ir

_C_FUNCTIONS = {
    **dict.fromkeys(["expm1", "log", "log1p", "tanh", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh"], 1),
    "atan2": 2,
}
"""Functions of the C library and the number of their arguments; float32 has its own, with an f at the end."""
_OF_LITERALS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv}
_LLVM_FUNCTIONS = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "fabs": "fabs", "abs": "fabs"}


def translate(entry: Kernel, types: Mapping[str, str], name: str, numbers: Mapping[str, int]) -> str:
    """The text of an LLVM module that exports `entry` as `name`, with everything that it calls.

    Args:
        entry: takes and returns `int` alone.
        types: what the type names mean that kernels leave open, such as `{"real": "float32"}`.
        name: of the exported function.
        numbers: what names of numbers mean that kernels leave open.

    Raises:
        KernelError: a text that is not of the language.
    """
    import llvmlite.binding as llvm
    from llvmlite import ir

    module = ir.Module(context=ir.Context())
    module.triple = llvm.get_process_triple()
    named = {**SCALARS, **{key: SCALARS[value] for key, value in types.items()}}
    _Module(module, named, numbers).function(entry, name)
    return str(module)


class _Module:
    """One module of LLVM's: the functions translated so far."""

    def __init__(self, module: ir.Module, types: Mapping[str, Type], numbers: Mapping[str, int]) -> None:
        from llvmlite import ir

        self.ir, self.module, self.types, self.numbers = ir, module, types, numbers
        self._functions: dict[Kernel, tuple[ir.Function, list[Type], Type | None]] = {}

    def function(self, kernel: Kernel, exported: str | None = None) -> tuple[ir.Function, list[Type], Type | None]:
        """The function, the types of its arguments and of its result."""
        if kernel not in self._functions:
            tree = kernel.tree
            names = [a.arg for a in tree.args.args]
            if unknown := kernel.types.keys() - set(names):
                raise KernelError(f"{tree.name}: types of {sorted(unknown)}, which are no arguments")
            arguments = [self.named(kernel.types.get(name, "int")) for name in names]
            returns = any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(tree))
            result = self.named(kernel.returns) if returns else None
            kind = self.ir.FunctionType(self.of(result), [self.of(t) for t in arguments])
            label = exported or self.module.get_unique_name(f"spyx.{tree.name}")
            function = self.ir.Function(self.module, kind, label)
            self._functions[kernel] = function, arguments, result
            function.attributes.add("nounwind")
            if exported is None:
                function.linkage = "internal"
            if kernel.inline:
                function.attributes.add("alwaysinline")
            if kernel.wide:  # llvmlite lists no such attribute, so that the set's own method has to add it
                set.add(function.attributes, '"prefer-vector-width"="512"')
            for argument, t in zip(function.args, arguments, strict=True):
                if t.kind == "p":
                    argument.add_attribute("noalias")  # XLA's buffers do not overlap, and neither do ours
            _Function(self, kernel, function, dict(zip(names, arguments, strict=True)), result).translate()
        return self._functions[kernel]

    def named(self, name: str) -> Type:
        found = self.types.get(name.rstrip("*"))
        if found is None:
            raise KernelError(f"no type {name}")
        return found.pointer() if name.endswith("*") else found

    def of(self, t: Type | None) -> ir.Type:
        """LLVM's type."""
        if t is None:
            return self.ir.VoidType()
        if t.kind == "p":
            return self.of(t.element).as_pointer()
        if t.kind == "f":
            return self.ir.FloatType() if t.bits == 32 else self.ir.DoubleType()
        return self.ir.IntType(t.bits)

    def external(self, name: str, result: Type | None, arguments: list[Type]) -> ir.Function:
        """A function of the C library, or one that LLVM knows."""
        if name not in self.module.globals:
            kind = self.ir.FunctionType(self.of(result), [self.of(t) for t in arguments])
            function = self.ir.Function(self.module, kind, name)
            if not name.startswith("llvm."):
                function.attributes.add("nounwind")
            if name in ("malloc", "aligned_alloc"):
                function.return_value.add_attribute("noalias")
        return self.module.globals[name]


class _Function:
    """The translation of one function: statements to blocks, expressions to values."""

    def __init__(
        self, module: _Module, kernel: Kernel, function: ir.Function, types: Mapping[str, Type], result: Type | None
    ) -> None:
        self.m, self.ir, self.kernel, self.function, self.result = module, module.ir, kernel, function, result
        self.builder = self.ir.IRBuilder(function.append_basic_block())
        self.flags = ("contract",) if kernel.contract else ()
        self.places: dict[str, tuple[ir.Value, Type]] = {}
        for (name, t), value in zip(types.items(), function.args, strict=True):
            self.store(name, Value(value, t))

    def translate(self) -> None:
        self.block(self.kernel.tree.body)
        if not self.builder.block.is_terminated:
            self.builder.ret_void() if self.result is None else self.builder.unreachable()

    def block(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if self.builder.block.is_terminated:
                return
            self.statement(statement)

    def error(self, node: ast.AST, message: str) -> KernelError:
        return KernelError(f"{self.kernel.tree.name}: {message}: {ast.unparse(node)}")

    # Statements

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                found = [self.expression(value) for value in values]
                for target, value in zip(targets, found, strict=True):
                    self.assign(target, value)
            case ast.Assign(targets=[target], value=value):
                self.assign(target, self.expression(value))
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                self.store(name, self.binary(node, op, self.load(name), self.expression(value)), node)
            case ast.AugAssign(target=ast.Subscript() as target, op=op, value=value):
                place, t = self.place(target)
                found = self.binary(node, op, Value(self.builder.load(place), t), self.expression(value))
                self.builder.store(self.as_type(node, found, t).value, place)
            case ast.Expr(value=ast.Constant(value=str())) | ast.Pass():
                pass
            case ast.Expr(value=ast.Call() as call):
                self.call(call)
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"), args=args), orelse=[]):
                self.loop(name, args, node.body)
            case ast.While(test=test, body=body, orelse=[]):
                self.repeat(lambda: self.truth(test), lambda: self.block(body))
            case ast.If(test=test, body=body, orelse=orelse):
                self.branch(test, body, orelse)
            case ast.Return(value=None):
                self.builder.ret_void()
            case ast.Return(value=ast.expr() as value):
                self.builder.ret(self.as_type(node, self.expression(value), self.result).value)  # type: ignore[arg-type]
            case _:
                raise self.error(node, "no statement of the language")

    def assign(self, target: ast.expr, value: Value) -> None:
        match target:
            case ast.Name(id=name):
                self.store(name, value, target)
            case ast.Subscript():
                place, t = self.place(target)
                self.builder.store(self.as_type(target, value, t).value, place)
            case _:
                raise self.error(target, "nothing that can be assigned to")

    def store(self, name: str, value: Value, node: ast.AST | None = None) -> None:
        """A variable has a place on the stack, which LLVM's first pass turns into a register."""
        if name not in self.places:
            value = self.as_type(node, value, INT if value.type == LITERAL else value.type)
            with self.builder.goto_entry_block():
                self.places[name] = self.builder.alloca(self.m.of(value.type)), value.type
        place, t = self.places[name]
        self.builder.store(self.as_type(node or self.kernel.tree, value, t).value, place)

    def loop(self, name: str, args: list[ast.expr], body: list[ast.stmt]) -> None:
        step = self.as_type(args[-1], self.expression(args[2]) if len(args) == 3 else Value(1, LITERAL), INT)
        first = self.expression(args[0]) if len(args) > 1 else Value(0, LITERAL)
        end = self.as_type(args[-1], self.expression(args[min(1, len(args) - 1)]), INT)
        self.store(name, self.as_type(args[0], first, INT))

        def once() -> None:
            self.block(body)
            if not self.builder.block.is_terminated:
                self.store(name, self.arithmetic("add", self.load(name), step))

        order = ">" if len(args) == 3 and isinstance(args[2], ast.UnaryOp) else "<"  # a step below 0 is written so
        self.repeat(lambda: self.builder.icmp_signed(order, self.load(name).value, end.value), once)

    def repeat(self, test: Callable[[], ir.Value], body: Callable[[], None]) -> None:
        head, inside, after = (self.function.append_basic_block() for _ in range(3))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        self.builder.cbranch(test(), inside, after)
        self.builder.position_at_end(inside)
        body()
        if not self.builder.block.is_terminated:
            self.builder.branch(head)
        self.builder.position_at_end(after)

    def branch(self, test: ast.expr, body: list[ast.stmt], orelse: list[ast.stmt]) -> None:
        blocks = yes, no, after = [self.function.append_basic_block() for _ in range(3)]
        self.builder.cbranch(self.truth(test), yes, no)
        for block, statements in zip(blocks, (body, orelse), strict=False):
            self.builder.position_at_end(block)
            self.block(statements)
            if not self.builder.block.is_terminated:
                self.builder.branch(after)
        self.builder.position_at_end(after)

    # Expressions

    def expression(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant(value=bool() as value):
                return Value(self.m.of(BOOL)(int(value)), BOOL)
            case ast.Constant(value=int() | float() as value):
                return Value(value, LITERAL)
            case ast.Name(id=name) if name in self.places:
                return self.load(name)
            case ast.Name(id=name) if isinstance(self.kernel.scope.get(name), int | float):
                return Value(self.kernel.scope[name], LITERAL)
            case ast.Name(id=name) if name in self.m.numbers:
                return Value(self.m.numbers[name], LITERAL)
            case ast.Subscript():
                place, t = self.place(node)
                return Value(self.builder.load(place), t)
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary(node, op, self.expression(left), self.expression(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.negative(node, self.expression(operand))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Value(self.builder.not_(self.truth(operand)), BOOL)
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                found = self.expression(operand)
                return Value(self.builder.not_(found.value), found.type)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self.compare(node, op, self.expression(left), self.expression(right))
            case ast.BoolOp(op=op, values=values):
                return self.logic(isinstance(op, ast.And), values)
            case ast.IfExp(test=test, body=yes, orelse=no):
                if any(isinstance(n, ast.Subscript) for side in (yes, no) for n in ast.walk(side)):
                    raise self.error(node, "reads memory on one side of a condition; assign it first")
                a, b = self.alike(node, self.expression(yes), self.expression(no))
                return Value(self.builder.select(self.truth(test), a.value, b.value), a.type)
            case ast.Call():
                found = self.call(node)
                if found is not None:
                    return found
        raise self.error(node, "no expression of the language")

    def load(self, name: str) -> Value:
        place, t = self.places[name]
        return Value(self.builder.load(place), t)

    def place(self, node: ast.Subscript) -> tuple[ir.Value, Type]:
        pointer, index = self.expression(node.value), self.as_type(node, self.expression(node.slice), INT)
        if pointer.type.element is None:
            raise self.error(node, "not a pointer")
        return self.builder.gep(pointer.value, [index.value], inbounds=True), pointer.type.element

    def truth(self, node: ast.expr) -> ir.Value:
        found = self.expression(node)
        if found.type != BOOL:
            found = self.compare(node, ast.NotEq(), found, Value(0, LITERAL))
        return found.value

    def logic(self, all_of: bool, values: list[ast.expr]) -> Value:
        """`and`, `or`: what comes later runs only where it matters, because it may read out of bounds elsewhere."""
        if not any(isinstance(n, ast.Subscript | ast.Call) for value in values[1:] for n in ast.walk(value)):
            found = [self.truth(value) for value in values]
            for other in found[1:]:
                found[0] = (self.builder.and_ if all_of else self.builder.or_)(found[0], other)
            return Value(found[0], BOOL)
        after = self.function.append_basic_block()
        reached = []
        for value in values[:-1]:
            found = self.truth(value)
            reached.append((self.m.of(BOOL)(int(not all_of)), self.builder.block))
            going_on = self.function.append_basic_block()
            self.builder.cbranch(found, *((going_on, after) if all_of else (after, going_on)))
            self.builder.position_at_end(going_on)
        reached.append((self.truth(values[-1]), self.builder.block))
        self.builder.branch(after)
        self.builder.position_at_end(after)
        phi = self.builder.phi(self.m.of(BOOL))
        for value, block in reached:
            phi.add_incoming(value, block)
        return Value(phi, BOOL)

    def compare(self, node: ast.AST, op: ast.cmpop, left: Value, right: Value) -> Value:
        a, b = self.alike(node, left, right)
        sign = {"Lt": "<", "LtE": "<=", "Gt": ">", "GtE": ">=", "Eq": "==", "NotEq": "!="}[type(op).__name__]
        if a.type.kind == "f":  # only != is true of NaN
            make = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        else:
            make = self.builder.icmp_signed if a.type.kind == "i" else self.builder.icmp_unsigned
        return Value(make(sign, a.value, b.value), BOOL)

    def binary(self, node: ast.AST, op: ast.operator, left: Value, right: Value) -> Value:
        if left.type == right.type == LITERAL:
            return Value(_OF_LITERALS[type(op)](left.value, right.value), LITERAL)
        a, b = self.alike(node, left, right)
        match type(op).__name__, a.type.kind:
            case ("Add" | "Sub" | "Mult") as name, "f":
                make = {"Add": self.builder.fadd, "Sub": self.builder.fsub, "Mult": self.builder.fmul}[name]
                return Value(make(a.value, b.value, flags=self.flags), a.type)
            case "Div", "f":
                return Value(self.builder.fdiv(a.value, b.value), a.type)
            case "Pow", "f":
                return self.by_name("llvm.pow", [a, b])
            case ("Add" | "Sub" | "Mult") as name, "i" | "u":
                return self.arithmetic({"Add": "add", "Sub": "sub", "Mult": "mul"}[name], a, b)
            case ("FloorDiv" | "Mod") as name, "i" | "u":
                return self.floor_division(name, a, b)
            case ("BitAnd" | "BitOr" | "BitXor") as name, "i" | "u" | "b":
                make = {"BitAnd": self.builder.and_, "BitOr": self.builder.or_, "BitXor": self.builder.xor}[name]
                return Value(make(a.value, b.value), a.type)
            case "LShift", "i" | "u":
                return Value(self.builder.shl(a.value, b.value), a.type)
            case "RShift", "i" | "u":
                return Value((self.builder.ashr if a.type.kind == "i" else self.builder.lshr)(a.value, b.value), a.type)
        raise self.error(node, "no such operation on these types")

    def arithmetic(self, name: str, a: Value, b: Value) -> Value:
        """Of integers; an `int` never overflows, which lets LLVM reason about loops."""
        flags = ("nsw",) if a.type.exact else ()
        return Value(getattr(self.builder, name)(a.value, b.value, flags=flags), a.type)

    def floor_division(self, name: str, a: Value, b: Value) -> Value:
        """Python's, for a positive divisor."""
        b_ = self.builder
        if a.type.kind == "i":
            rest = b_.srem(a.value, b.value)
            below = b_.icmp_signed("<", rest, rest.type(0))
            if name == "Mod":
                return Value(b_.add(rest, b_.select(below, b.value, rest.type(0))), a.type)
            return Value(b_.sub(b_.sdiv(a.value, b.value), b_.zext(below, rest.type)), a.type)
        return Value((b_.urem if name == "Mod" else b_.udiv)(a.value, b.value), a.type)

    def quotient(self, a: Value, b: Value) -> Value:
        """Of integers, towards 0; where the processor would stop, what XLA has: by 0 it is -1, by -1 it wraps."""
        b_, one, minus_one = self.builder, b.value.type(1), b.value.type(-1)
        by_zero = b_.icmp_unsigned("==", b.value, b.value.type(0))
        if a.type.kind != "i":
            found = b_.udiv(a.value, b_.select(by_zero, one, b.value))
            return Value(b_.select(by_zero, minus_one, found), a.type)
        wraps = b_.icmp_signed("==", b.value, minus_one)
        found = b_.sdiv(a.value, b_.select(b_.or_(by_zero, wraps), one, b.value))
        found = b_.select(wraps, b_.sub(b.value.type(0), a.value), found)
        return Value(b_.select(by_zero, minus_one, found), a.type)

    def negative(self, node: ast.AST, found: Value) -> Value:
        if found.type == LITERAL:
            return Value(-found.value, LITERAL)
        if found.type.kind == "f":
            return Value(self.builder.fneg(found.value), found.type)
        return self.arithmetic("sub", Value(found.value.type(0), found.type), found)

    # Types

    def alike(self, node: ast.AST, a: Value, b: Value) -> tuple[Value, Value]:
        """Both of one type: a literal takes the other's, and an `int` is any 64-bit integer."""
        t = a.type if a.type not in (LITERAL, INT) or b.type == LITERAL else b.type
        t = INT if t == LITERAL else t
        return self.as_type(node, a, t), self.as_type(node, b, t)

    def as_type(self, node: ast.AST | None, found: Value, t: Type) -> Value:
        if found.type == LITERAL:
            if isinstance(found.value, float) and t.kind != "f":
                raise self.error(node or self.kernel.tree, "a fraction where an integer is expected")
            kind = self.m.of(t)
            return Value(kind(float(found.value) if t.kind == "f" else int(found.value)), t)
        if found.type == t or (found.type[:2] == t[:2] == ("i", 64)):
            return Value(found.value, t)
        raise self.error(node or self.kernel.tree, f"a value of type {found.type} where {t} is expected")

    def cast(self, found: Value, t: Type) -> Value:
        """To another type. From a fraction to an integer: towards 0, and the nearest that exists, as XLA has it."""
        if found.type == LITERAL:
            return self.as_type(None, Value(found.value if t.kind == "f" else int(found.value), LITERAL), t)
        a, b, kind, value = found.type, self.builder, self.m.of(t), found.value
        if a.kind == "p":  # int(pointer): its address
            return Value(b.ptrtoint(value, kind), t)
        if t.kind == "b":
            return self.compare(ast.Pass(), ast.NotEq(), found, Value(0, LITERAL))
        if a.kind == "f" and t.kind == "f":
            same = a.bits == t.bits
            return Value(value if same else (b.fpext if t.bits > a.bits else b.fptrunc)(value, kind), t)
        if a.kind == "f":
            name = f"llvm.fpto{'s' if t.kind == 'i' else 'u'}i.sat.i{t.bits}.f{a.bits}"
            return Value(b.call(self.m.external(name, t, [a]), [value]), t)
        if t.kind == "f":
            return Value((b.sitofp if a.kind == "i" else b.uitofp)(value, kind), t)
        if t.bits > a.bits:
            return Value((b.sext if a.kind == "i" else b.zext)(value, kind), t)
        return Value(value if t.bits == a.bits else b.trunc(value, kind), t)

    # Calls

    def call(self, node: ast.Call) -> Value | None:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise self.error(node, "no function of the language")
        name = node.func.id
        found = self.kernel.scope.get(name)
        if isinstance(found, Kernel):
            function, types, result = self.m.function(found)
            arguments = [self.expression(a) for a in node.args]
            if len(arguments) != len(types):
                raise self.error(node, f"{len(types)} arguments expected")
            values = [self.as_type(node, a, t).value for a, t in zip(arguments, types, strict=True)]
            called = self.builder.call(function, values)
            return None if result is None else Value(called, result)
        if name == "address_of":  # address_of(kernel)
            other = self.kernel.scope.get(ast.unparse(node.args[0]))
            if not isinstance(other, Kernel):
                raise self.error(node, "no kernel")
            function, _, _ = self.m.function(other)
            return Value(self.builder.ptrtoint(function, self.m.of(INT)), INT)
        if name == "reinterpret":  # reinterpret(real, x): the number with the bits of x
            t = self.m.named(ast.unparse(node.args[0]))
            return Value(self.builder.bitcast(self.expression(node.args[1]).value, self.m.of(t)), t)
        return self.builtin(node, name, [self.expression(a) for a in node.args])

    def builtin(self, node: ast.Call, name: str, found: list[Value]) -> Value | None:
        builder, values = self.builder, [a.value for a in found]
        word = self.m.of(INT)
        if name in self.m.types:
            return self.cast(found[0], self.m.types[name])
        if name.startswith("truncated_"):  # truncated_int32(x): x must be in its range
            t = self.m.named(name.removeprefix("truncated_"))
            return Value(builder.fptosi(values[0], self.m.of(t)), t)
        if name.endswith("_at"):  # real_at(address): a pointer, from an address or another pointer
            t = self.m.named(name.removesuffix("_at") + "*")
            make = builder.bitcast if found[0].type.kind == "p" else builder.inttoptr
            return Value(make(values[0], self.m.of(t)), t)
        if name in ("min", "max"):
            a, b = self.alike(node, *found)
            smaller = self.compare(node, ast.Lt(), a, b).value
            return Value(
                builder.select(smaller, *((a.value, b.value) if name == "min" else (b.value, a.value))), a.type
            )
        if name == "quotient":
            return self.quotient(*self.alike(node, *found))
        if name in _LLVM_FUNCTIONS and found[0].type.kind == "f":
            return self.by_name(f"llvm.{_LLVM_FUNCTIONS[name]}", found)
        if name == "abs":
            negative = self.negative(node, found[0])
            below = self.compare(node, ast.Lt(), found[0], Value(0, LITERAL))
            return Value(builder.select(below.value, negative.value, values[0]), negative.type)
        if name in _C_FUNCTIONS and len(found) == _C_FUNCTIONS[name]:
            return self.by_name(name, found)
        if name in ("malloc", "aligned_alloc"):
            sizes = [self.as_type(node, a, INT) for a in found]
            function = self.m.external(name, BYTE.pointer(), [INT] * len(sizes))
            return Value(builder.call(function, [a.value for a in sizes]), BYTE.pointer())
        if name == "free":
            pointer = builder.bitcast(values[0], self.m.of(BYTE.pointer()))
            builder.call(self.m.external(name, None, [BYTE.pointer()]), [pointer])
            return None
        if name == "sched_yield":
            builder.call(self.m.external(name, SCALARS["int32"], []), [])
            return None
        if name == "fetch_add":  # fetch_add(pointer, amount): one indivisible addition, returns what was there
            amount = self.as_type(node, found[1], INT)
            return Value(builder.atomic_rmw("add", values[0], amount.value, "seq_cst"), INT)
        if name == "call":  # call(address, ...): a function of words
            arguments = [self.as_type(node, a, INT).value for a in found[1:]]
            kind = self.ir.FunctionType(word, [word] * len(arguments)).as_pointer()
            return Value(builder.call(builder.inttoptr(values[0], kind), arguments), INT)
        raise self.error(node, "no function of the language")

    def by_name(self, name: str, found: list[Value]) -> Value:
        """A function of floating-point numbers: LLVM's or the C library's."""
        t = next(a.type for a in found if a.type != LITERAL)
        full = f"{name}.f{t.bits}" if name.startswith("llvm.") else name + ("f" if t.bits == 32 else "")
        function = self.m.external(full, t, [t] * len(found))
        return Value(self.builder.call(function, [self.as_type(None, a, t).value for a in found]), t)
