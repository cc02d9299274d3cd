# preload: import sqlalchemy, sqlalchemy.orm, sqlalchemy.dialects.sqlite
from sqlalchemy import ForeignKey, String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(30))
    children: Mapped[list["Child"]] = relationship(back_populates="parent")


class Child(Base):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))
    parent: Mapped[Parent] = relationship(back_populates="children")


engine = create_engine("sqlite://")
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all(Parent(name=f"p{i}", children=[Child() for _ in range(i)]) for i in range(5))
    session.commit()
    counted = select(Parent.name, func.count(Child.id)).outerjoin(Child).group_by(Parent.name)
    print(session.execute(counted).all())
    print(counted, session.get(Parent, 3).children[1].parent.name)
